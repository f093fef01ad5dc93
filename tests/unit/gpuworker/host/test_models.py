"""Models of a host: loaded in the background, each available or reported as unavailable, and no wait for ever."""

import socket
import time
from pathlib import Path

import pytest

from gpuworker import pipe
from gpuworker.host.device_memory import DeviceMemory
from gpuworker.host.models import Models
from gpuworker.host.readiness import Readiness
from gpuworker.host_options import HostOptions
from gpuworker.pipe import Outbox
from tests.support import engine_package

BROKEN = """
from gpuworker.engines.tone import Tone


class Broken(Tone):
    def load(self, device, policy):
        raise RuntimeError("no such checkpoint")
"""


def test_a_model_that_cannot_be_loaded_is_reported_and_does_not_keep_the_host_loading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine_package.install(tmp_path, "broken", "Broken", BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        options = HostOptions(fd=0, mark_fd=0, crash_fd=0, models=["broken", "tone"])
        outbox = Outbox(ours)
        models = Models(options, outbox, DeviceMemory(lambda _: None), Readiness(outbox))
        models.start()
        until = time.monotonic() + 20
        while models.is_loading and time.monotonic() < until:
            models.take_loaded()
        assert not models.is_loading
        received: list[pipe.ControlMessage] = []
        pipe.MessageReader({}, received.append).feed(theirs.recv(1 << 16))
    assert received[0] == pipe.Unavailable("broken", "RuntimeError: no such checkpoint")
    assert isinstance(received[1], pipe.Loaded)
    assert {name: engine.capabilities().name for name, engine in models.engines.items()} == {"tone": "tone"}
