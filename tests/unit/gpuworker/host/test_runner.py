"""Groups on the device: stepped in turn, blocked by a full window, ended by their engine's errors alone."""

from collections.abc import Sequence
from typing import Any

import pytest

from gpuworker import pipe
from gpuworker.crash import StepMark
from gpuworker.engine import EngineJob, OutOfMemory, Rejected
from gpuworker.engines.tone import Tone
from gpuworker.host.batcher import Batcher
from gpuworker.host.group import WINDOW_BYTES, Group, Member
from gpuworker.host.runner import Runner
from gpuworker.host.schedule import Schedule


class Listener:
    """Receives the messages of one job."""

    def __init__(self, device: "Device", handle: int) -> None:
        self._device = device
        self._handle = handle

    def on_audio(self, first_frame: int, pcm: bytes, marks: pipe.Marks) -> None:
        sent = self._device.audio_bytes
        sent[self._handle] = sent.get(self._handle, 0) + len(pcm)

    def on_control(self, message: pipe.ControlMessage) -> None:
        self._device.messages.setdefault(self._handle, []).append(message)


class Device:
    """A runner, and the messages that it sends by job."""

    def __init__(self) -> None:
        self.audio_bytes: dict[int, int] = {}
        self.messages: dict[int, list[pipe.ControlMessage]] = {}
        self.schedule: Schedule[Group] = Schedule()
        self.mark = StepMark(bytearray(StepMark.SIZE))
        self.runner = Runner(self.schedule, Batcher(self.send), self.mark)
        receivers = {handle: Listener(self, handle) for handle in (1, 2, 3)}
        self._reader = pipe.MessageReader(receivers, lambda _: None)

    def send(self, message: bytes, urgent: bool) -> None:
        self._reader.feed(message)

    def enter(self, engine: Any, *handles: int, **params: Any) -> None:
        jobs = [Tone().validate(EngineJob(id="j", input="x", params=params)) for _ in handles]
        members = [Member(handle, job, 0.0) for handle, job in zip(handles, jobs, strict=True)]
        self.runner.enter(Group(engine, members, self.send))

    def run(self) -> None:
        while self.runner.step(0.0):
            pass


class Broken(Tone):
    """Raises `error` at its first step, if more than `most` jobs share it."""

    def __init__(self, error: Exception, most: int = 0) -> None:
        super().__init__()
        self.error = error
        self.most = most

    def generate(self, jobs: Sequence[EngineJob]) -> Any:
        if len(jobs) > self.most:
            raise self.error
        yield from super().generate(jobs)


@pytest.fixture
def device() -> Device:
    return Device()


def test_a_job_runs_to_its_end_and_leaves_nothing_runnable(device: Device) -> None:
    device.enter(Tone(), 1, seconds=0.5)
    device.run()
    assert (device.audio_bytes, device.messages) == ({1: 24_000}, {1: [pipe.Done({})]})
    assert device.schedule.wait_s(0.0) is None
    assert device.mark.read() == (0, 0.0)


def test_a_full_window_blocks_a_job_until_there_is_credit_and_no_other_one(device: Device) -> None:
    device.enter(Tone(), 1, seconds=60)
    device.enter(Tone(), 2, seconds=0.5)
    device.run()
    assert WINDOW_BYTES <= device.audio_bytes[1] < WINDOW_BYTES + 4_800
    assert device.messages == {2: [pipe.Done({})]}
    before = device.audio_bytes[1]
    device.runner.add_credit(1, 4_800)
    device.run()
    assert device.audio_bytes[1] == before + 4_800
    device.runner.add_credit(99, 4_800)


def test_a_cancelled_job_ends_silently_and_the_rest_of_its_group_goes_on(device: Device) -> None:
    device.enter(Tone(), 1, 2, seconds=0.5, max_batch=2)
    device.runner.step(0.0)
    assert device.runner.cancel(1)
    assert not device.runner.cancel(99)
    device.run()
    assert device.messages == {2: [pipe.Done({})]}
    assert not device.runner.cancel(1)


def test_a_cancelled_job_whose_window_was_full_unblocks_its_group(device: Device) -> None:
    device.enter(Tone(), 1, 2, seconds=60, max_batch=2)
    device.run()
    device.runner.add_credit(2, WINDOW_BYTES)
    assert not device.runner.step(0.0)
    device.runner.cancel(1)
    assert device.runner.step(0.0)


@pytest.mark.parametrize(
    ("error", "code", "path", "message"),
    [
        (ValueError("no such layer"), "engine_failed", "", "ValueError: no such layer"),
        (Rejected("input", "is Klingon"), "invalid", "input", "input: is Klingon"),
    ],
)
def test_an_error_of_the_engine_ends_the_jobs_of_its_group_and_no_other(
    device: Device, error: Exception, code: str, path: str, message: str
) -> None:
    device.enter(Broken(error), 1, 2)
    device.enter(Tone(), 3, seconds=0.1)
    device.run()
    assert device.messages[3] == [pipe.Done({})]
    for handle in (1, 2):
        (failed,) = device.messages[handle]
        assert isinstance(failed, pipe.Failed)
        assert (failed.code, failed.path, failed.message) == (code, path, message)


def test_a_batch_that_does_not_fit_is_halved_until_it_does(device: Device) -> None:
    device.enter(Broken(OutOfMemory("full"), most=1), 1, 2, 3, seconds=0.2, max_batch=3)
    device.run()
    assert device.messages == {handle: [pipe.Done({})] for handle in (1, 2, 3)}


def test_a_job_that_does_not_fit_alone_fails(device: Device) -> None:
    device.enter(Broken(OutOfMemory("full")), 1, 2, max_batch=2)
    device.run()
    for handle in (1, 2):
        assert device.messages[handle] == [pipe.Failed("out_of_memory", "tone: full")]
