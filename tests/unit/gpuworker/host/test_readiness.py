"""Which loaded models can begin jobs: reported at once, and again at each change, not oftener."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gpuworker import pipe
from gpuworker.engine import AttemptFailed
from gpuworker.engines.tone import Tone
from gpuworker.host.failures import failure
from gpuworker.host.readiness import Readiness
from gpuworker.pipe import Outbox
from gpuworker.worker.engine_host import HostModels


class Moody(Tone):
    """An engine whose server is down or up as the test says."""

    reason = "down"

    def unready(self) -> str:
        return self.reason


@contextmanager
def readiness() -> Iterator[tuple[Readiness, Any]]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    def received() -> list[pipe.ControlMessage]:
        messages: list[pipe.ControlMessage] = []
        try:
            pipe.MessageReader({}, messages.append).feed(theirs.recv(1 << 16))
        except BlockingIOError:
            return []
        return messages

    with ours, theirs:
        yield Readiness(Outbox(ours)), received


def test_an_engine_that_cannot_be_unready_is_loaded_and_never_read() -> None:
    with readiness() as (each, received):
        each.add("tone", Tone(), 0.5)
        assert received() == [pipe.Loaded("tone", 0.5)]
        assert not each.is_in_use


def test_each_change_is_reported_once() -> None:
    engine = Moody()
    with readiness() as (each, received):
        each.add("moody", engine, 0.5)
        assert received() == [pipe.Unready("moody", "down")]
        each.poll(10.0)
        engine.reason = "loading"
        each.poll(10.2)
        assert received() == []
        engine.reason = ""
        each.poll(10.25)
        assert received() == []
        assert each.wait_s(10.25) == pytest.approx(0.05)
        each.poll(10.4)
        assert received() == [pipe.Loaded("moody", 0.0)]


async def test_a_model_whose_server_is_down_is_still_to_come_and_takes_no_jobs_meanwhile() -> None:
    models = HostModels(["moody", "tone"])
    models.update(pipe.Loaded("tone", 0.1))
    assert models.update(pipe.Unready("moody", "down"))
    assert (models.loaded, models.unready, models.is_loading) == ({"tone"}, {"moody": "down"}, True)
    assert not models.settled.is_set()
    models.update(pipe.Loaded("moody", 0.0))
    assert (models.loaded, models.unready, models.is_loading) == ({"tone", "moody"}, {}, False)
    assert models.settled.is_set()
    models.update(pipe.Unready("moody", "down"))
    assert (models.loaded, models.unavailable) == ({"tone"}, {})


@pytest.mark.parametrize("is_fault", [True, False])
def test_a_failed_attempt_is_no_failed_job(is_fault: bool) -> None:
    assert failure(AttemptFailed("gone", is_fault=is_fault)) == pipe.AttemptFailed("gone", is_fault)
