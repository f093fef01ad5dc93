"""One job's stream from the engine host, as the worker reads it: audio merged into entries, words in their order."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

import msgspec

from bus import wire
from bus.wire import MAX_MARKS
from gpuworker import pipe
from gpuworker.worker.entry_size import MAX_ENTRY_BYTES, EntrySize


class Audio(msgspec.Struct, frozen=True):
    """What goes into one log entry: s16le from `first_frame` on, and the marks in it, `MAX_MARKS` at most."""

    first_frame: int
    pcm: bytes
    marks: pipe.Marks = ()


class Interruption(Exception):
    """The stream ends before its job does. Subclasses say what to do with the lease."""

    #: In a word, for logs and metrics.
    why = "interrupted"


class Taken(Interruption):
    """The lease is somebody else's: stop, append nothing, ack nothing."""

    def __init__(self, lease: wire.Lease | None = None) -> None:
        """`lease`: as it stands now; one that ends the job says how."""
        super().__init__("the lease was taken")
        self.why = lease.why if lease is not None and lease.why in wire.ENDS else "taken"


class HandBack(Interruption):
    """We stop on purpose, the job is fine: give it to somebody else, at no cost to it."""

    why = "handed_back"


class Lost(Interruption):
    """The engine died or stalled in this very job: give it to somebody else, and count it."""

    why = "lost"

    def __init__(self, reason: str, *, host_died: bool = False, traceback: str = "") -> None:
        super().__init__(reason)
        self.host_died, self.traceback = host_died, traceback


class Due(Interruption):
    """Its deadline passed."""

    why = "expired"


class Left(Interruption):
    """Nobody listens any more."""

    why = "left"


Piece = Audio | pipe.Progress | pipe.Checkpoint | pipe.Done | pipe.Failed


class Stream:
    """Filled by the host's read loop, emptied by the job's task."""

    def __init__(self, handle: int, entry_size: EntrySize, credit: Callable[[int, int], None]) -> None:
        self.handle, self._entry_size, self._credit = handle, entry_size, credit
        self._audio: deque[tuple[int, bytes, pipe.Marks]] = deque()
        self._audio_bytes = 0
        self._words: deque[pipe.ControlMessage] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self.interruption: Interruption | None = None
        #: Monotonic seconds of it.
        self.interrupted_at = 0.0
        #: Monotonic seconds of the engine's last sign of life in this job.
        self.progress_at = time.monotonic()

    # The host's side

    def on_audio(self, first_frame: int, pcm: bytes, marks: pipe.Marks = ()) -> None:
        self._audio.append((first_frame, pcm, marks))
        self._audio_bytes += len(pcm)
        self._progress()

    def on_control(self, word: pipe.ControlMessage) -> None:
        self._words.append(word)
        self._progress()

    def _progress(self) -> None:
        self.progress_at = time.monotonic()
        self._wake()

    def interrupt(self, interruption: Interruption) -> None:
        """End the stream here; the first reason stands. What was made and not appended is dropped."""
        if self.interruption is None:
            self.interruption, self.interrupted_at = interruption, time.monotonic()
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    @property
    def waits_for_bus(self) -> bool:
        """Audio is there that the bus has not taken: silence is not the engine's fault."""
        return self._audio_bytes > 0

    # The job's side

    async def next(self) -> Piece:
        """The next piece in order; audio as much as one entry should hold.

        Raises Interruption. Cancelling loses nothing.
        """
        while True:
            if self.interruption is not None:
                raise self.interruption
            if self._audio:
                # A word waits for all audio that is here, so progress and checkpoints may be told late, never early.
                hold_s = 0.0 if self._words else self._entry_size.hold_s(self._audio_bytes, time.monotonic())
                if hold_s <= 0:
                    return self._merge()
                await self._sleep(hold_s)
            elif self._words:
                word = self._words.popleft()
                if isinstance(word, pipe.Progress | pipe.Checkpoint | pipe.Done | pipe.Failed):
                    return word
            else:
                await self._sleep(None)

    def appended(self, audio: Audio) -> None:
        """`audio` is in the log: let the engine make as much more."""
        self._entry_size.appended(len(audio.pcm), time.monotonic())
        self._credit(self.handle, len(audio.pcm))
        self.progress_at = time.monotonic()

    def _merge(self) -> Audio:
        first_frame, pcm, marks = self._audio.popleft()
        parts = [pcm]
        size = len(pcm)
        while self._audio and not self._entry_size.is_first:
            _, more, of_more = self._audio[0]
            if size + len(more) > MAX_ENTRY_BYTES or len(marks) + len(of_more) > MAX_MARKS:
                break
            self._audio.popleft()
            parts.append(more)
            size += len(more)
            marks += of_more
        self._audio_bytes -= size
        return Audio(first_frame, parts[0] if len(parts) == 1 else b"".join(parts), marks)

    async def _sleep(self, seconds: float | None) -> None:
        """Until something comes, `seconds` at most; without a limit the worker's watch bounds it by `stall_s`."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(seconds, self._wake) if seconds is not None else None
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
