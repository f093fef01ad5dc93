"""The engine host's loop, in a thread, over the socket that a worker would hold."""

import os
import socket
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import pytest

from bus import wire
from gpuworker import pipe, registry
from gpuworker.crash import StepMark
from gpuworker.engine import Done, EngineJob, Event
from gpuworker.engines.tone import Tone
from gpuworker.host.main import Host
from gpuworker.host_options import HostOptions


class Worker:
    """The worker's end: sends commands, and keeps the messages of each job."""

    def __init__(self, models: list[str]) -> None:
        self._socket, theirs = socket.socketpair()
        mark_fd = os.memfd_create("step")
        os.ftruncate(mark_fd, StepMark.SIZE)
        # Host takes the descriptor over: the socket object here must not close it.
        self.host = Host(HostOptions(fd=theirs.detach(), mark_fd=mark_fd, crash_fd=-1, models=models))
        os.close(mark_fd)
        self.control: dict[int, list[pipe.ControlMessage]] = {0: [], 1: [], 2: []}
        self.frames: dict[int, int] = {1: 0, 2: 0}
        receivers = {handle: Receiver(self, handle) for handle in (1, 2)}
        self._reader = pipe.MessageReader(receivers, self.control[0].append)
        self._thread = threading.Thread(target=self.host.run)
        self._thread.start()

    def start(self, handles: Sequence[int], model: str, **params: Any) -> None:
        """Start a job for each handle, in one message."""
        commands = b""
        for handle in handles:
            request = wire.EngineRequest(id=f"j{handle}", model=model, input="x", params=params)
            commands += pipe.encode_command(pipe.Start(handle=handle, request=request, start_frame=0, attempt=1))
        self._socket.sendall(commands)

    def facts(self, handle: int) -> dict[str, Any]:
        """Read until job `handle` is done; its engine's facts."""
        self.until(lambda: self.control[handle])
        (done,) = self.control[handle]
        assert isinstance(done, pipe.Done)
        return dict(done.facts)

    def until(self, found: Callable[[], Any]) -> None:
        """Read messages until `found` is true; fails after 30 s of silence."""
        self._socket.settimeout(30)
        while not found():
            self._reader.feed(self._socket.recv(1 << 16))

    def close(self) -> None:
        self._socket.sendall(pipe.encode_command(pipe.Quit()))
        self._thread.join(30)
        self._socket.close()
        assert not self._thread.is_alive()


class Counting(Tone):
    """Reports with each job's end how many jobs its group had."""

    def generate(self, jobs: Sequence[EngineJob]) -> Generator[tuple[int, Event], None, None]:
        for index, event in super().generate(jobs):
            yield index, Done(facts={"together": len(jobs)}) if isinstance(event, Done) else event


class Receiver:
    """Receives the messages of one job."""

    def __init__(self, worker: Worker, handle: int) -> None:
        self._worker = worker
        self._handle = handle

    def on_audio(self, first_frame: int, pcm: bytes, marks: pipe.Marks) -> None:
        assert first_frame == self._worker.frames[self._handle]
        self._worker.frames[self._handle] += len(pcm) // 2

    def on_control(self, message: pipe.ControlMessage) -> None:
        self._worker.control[self._handle].append(message)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    monkeypatch.setattr(registry, "make_model", lambda served, *, allow_faults: Counting())
    worker = Worker(["tone"])
    try:
        worker.until(lambda: worker.control[0])
        yield worker
    finally:
        worker.close()


def test_a_job_for_a_model_that_is_not_loaded_is_rejected_and_names_it(worker: Worker) -> None:
    assert [type(message) for message in worker.control[0]] == [pipe.Loaded]
    worker.start([1], "music")
    worker.until(lambda: worker.control[1])
    (failed,) = worker.control[1]
    assert isinstance(failed, pipe.Failed)
    assert (failed.code, failed.path) == ("invalid", "model")
    assert "'music' is not loaded here" in failed.message


def test_a_job_without_a_batch_key_runs_alone(worker: Worker) -> None:
    worker.start([1, 2], "tone", seconds=0.2, max_batch=1)
    assert [worker.facts(handle) for handle in (1, 2)] == [{"together": 1}] * 2
    assert worker.frames == {1: 4800, 2: 4800}


def test_jobs_with_equal_batch_keys_that_arrive_together_share_a_group(worker: Worker) -> None:
    worker.start([1, 2], "tone", seconds=0.2, max_batch=2)
    assert [worker.facts(handle) for handle in (1, 2)] == [{"together": 2}] * 2
    assert worker.frames == {1: 4800, 2: 4800}
