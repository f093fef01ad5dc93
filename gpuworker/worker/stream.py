"""One job's stream from the engine host. Audio is merged into log entries; control messages keep their order."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

import msgspec

from bus import wire
from bus.errors import TooLarge
from bus.fleet.messages import ModelCard
from bus.jobs.entry import Position
from bus.jobs.validate import AudioLimit
from bus.settings import BusSettings
from bus.wire import MAX_MARKS
from gpuworker import pipe
from gpuworker.worker.entry_size import MAX_ENTRY_BYTES, EntrySize


class Audio(msgspec.Struct, frozen=True):
    """Content of one log entry: interleaved s16le from `first_frame` on and its marks, at most `MAX_MARKS`."""

    first_frame: int
    pcm: bytes
    marks: pipe.Marks = ()


class Interruption(Exception):
    """The stream ends before its job does. Each subclass stands for one treatment of the lease."""

    #: Label of the `job.stopped` event and of its metric.
    why = "interrupted"


class LeaseRevoked(Interruption):
    """Another process holds the lease: stop, append nothing, acknowledge nothing."""

    def __init__(self, lease: wire.Lease | None = None) -> None:
        """`lease`: as it stands now. If it ends the job, `why` is the kind of that end."""
        super().__init__("the lease was revoked")
        self.why = lease.state if lease is not None and lease.state in wire.ENDS else "revoked"


class HandBack(Interruption):
    """This worker stops on purpose and the job is sound: release it for another worker, without costing an attempt."""

    why = "handed_back"


class EngineLost(Interruption):
    """The engine died or stalled in this job: release it for another worker, and count the attempt."""

    why = "engine_lost"

    def __init__(self, reason: str, *, host_died: bool = False, traceback: str = "", is_fault: bool = True) -> None:
        """`host_died`: the whole engine host died or hung. `traceback`: where, if known.

        `is_fault`: the circuit breaker counts it; the death of a host is counted as such.
        """
        super().__init__(reason)
        self.is_fault = is_fault and not host_died
        self.host_died = host_died
        self.traceback = traceback


class DeadlinePassed(Interruption):
    """The job expired."""

    why = "expired"


class NoListeners(Interruption):
    """No client listens to the job any more."""

    why = "no_listeners"


Piece = Audio | pipe.Progress | pipe.Checkpoint | pipe.Done | pipe.Failed


class SizeLimit:
    """The most audio that a job's log may hold, over all attempts."""

    def __init__(self, settings: BusSettings, card: ModelCard, job: wire.Job) -> None:
        self._card = card
        self._frame_bytes = 2 * card.channels
        self._max_bytes = AudioLimit.of(settings).allowed(job, card.bound, card.rate_hz * self._frame_bytes)

    def checked(self, piece: Piece, position: Position) -> Piece:
        """`piece`, or a failure in place of audio that does not fit behind `position`."""
        if not isinstance(piece, Audio) or position.frame * self._frame_bytes + len(piece.pcm) <= self._max_bytes:
            return piece
        limit = f"{self._max_bytes / self._frame_bytes / self._card.rate_hz:,.1f} s of audio, {self._max_bytes:,} bytes"
        return pipe.Failed(code=TooLarge.code, message=f"{self._card.name} makes more than this job may have: {limit}")


class Stream:
    """A buffer that the host's read loop fills and the job's task empties. One task may wait in `next` at a time."""

    def __init__(self, handle: int, entry_size: EntrySize, send_credit: Callable[[int, int], None]) -> None:
        """`send_credit(handle, num_bytes)` lets the host produce `num_bytes` more of this job."""
        self.handle = handle
        self._entry_size = entry_size
        self._send_credit = send_credit
        self._audio: deque[tuple[int, bytes, pipe.Marks]] = deque()
        self._audio_bytes = 0
        self._control: deque[pipe.ControlMessage] = deque()
        self._waiter: asyncio.Future[None] | None = None
        #: Whether the job's task waits until an entry may be appended: no silence of the engine.
        self.waits_for_room = False
        #: Whether the host has finished the job: it needs no more credit, and need not be stopped.
        self.is_done = False
        self.interruption: Interruption | None = None
        #: Monotonic seconds of the interruption.
        self.interrupted_at = 0.0
        #: Monotonic seconds of the engine's last sign of life in this job.
        self._progress_at = time.monotonic()

    # The host's side

    def on_audio(self, first_frame: int, pcm: bytes, marks: pipe.Marks = ()) -> None:
        """Audio arrived from the engine host. Blocks of a job are contiguous."""
        self._audio.append((first_frame, pcm, marks))
        self._audio_bytes += len(pcm)
        self._progress_at = time.monotonic()
        self.wake()

    def on_control(self, message: pipe.ControlMessage) -> None:
        """A control message arrived from the engine host."""
        self._control.append(message)
        self.is_done = self.is_done or isinstance(message, pipe.Done)
        self._progress_at = time.monotonic()
        self.wake()

    def interrupt(self, interruption: Interruption) -> None:
        """End the stream here; the first interruption wins. Audio that is not appended yet is dropped."""
        if self.interruption is None:
            self.interruption = interruption
            self.interrupted_at = time.monotonic()
            self.wake()

    @property
    def silent_s(self) -> float:
        """Seconds since the engine's last sign of life; 0 while audio waits here, which is not the engine's fault."""
        return 0.0 if self._audio_bytes or self.waits_for_room else time.monotonic() - self._progress_at

    def restart_silence(self) -> None:
        """Count silence from now on: this worker stood still, or the engine had no credit to go on."""
        self._progress_at = time.monotonic()

    # The job's side

    async def next(self) -> Piece:
        """The next piece in order, with as much audio as one entry should hold.

        Raises Interruption. Cancelling loses nothing.
        """
        while True:
            if self.interruption is not None:
                raise self.interruption
            if self._audio:
                # A control message waits for all audio that is here, so progress and checkpoints may be late, never
                # early.
                is_due = self._control or self._entry_size.is_first
                hold_s = 0.0 if is_due else self._entry_size.hold_s(self._audio_bytes, time.monotonic())
                if hold_s <= 0:
                    return self._merge()
                await self._sleep(hold_s)
            elif self._control:
                message = self._control.popleft()
                if isinstance(message, pipe.Progress | pipe.Checkpoint | pipe.Done | pipe.Failed):
                    return message
                if isinstance(message, pipe.AttemptFailed):
                    self.interrupt(EngineLost(message.message, is_fault=message.is_fault))
            else:
                await self._sleep(None)

    async def wait_until(self, is_due: Callable[[], bool], at_most_s: float) -> bool:
        """Wait until `is_due`, at most `at_most_s`; whether it is. A change that may make it true must call `wake`.

        Raises Interruption. Cancelling loses nothing.
        """
        deadline = time.monotonic() + at_most_s
        while self.interruption is None and not is_due():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            await self._sleep(left_s)
        if self.interruption is not None:
            raise self.interruption
        return True

    def appended(self, audio: Audio) -> None:
        """`audio` is in the log: the engine may produce as much more, unless it is done."""
        now = time.monotonic()
        self._entry_size.appended(len(audio.pcm), now)
        if not self.is_done:
            self._send_credit(self.handle, len(audio.pcm))
        self._progress_at = now

    def _merge(self) -> Audio:
        first_frame, pcm, marks = self._audio.popleft()
        parts = [pcm]
        size = len(pcm)
        while self._audio and not self._entry_size.is_first:
            _, next_pcm, next_marks = self._audio[0]
            if size + len(next_pcm) > MAX_ENTRY_BYTES or len(marks) + len(next_marks) > MAX_MARKS:
                break
            self._audio.popleft()
            parts.append(next_pcm)
            size += len(next_pcm)
            marks += next_marks
        self._audio_bytes -= size
        return Audio(first_frame, parts[0] if len(parts) == 1 else b"".join(parts), marks)

    async def _sleep(self, seconds: float | None) -> None:
        """Until something arrives, at most `seconds`. None: the Supervisor interrupts a stream that stays silent."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(seconds, self.wake) if seconds is not None else None
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def wake(self) -> None:
        """Let the job's task look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
