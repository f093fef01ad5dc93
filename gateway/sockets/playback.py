"""Plays queued segments in order over one WebSocket: each is a job of its own, and one job is prefetched.

Only one: an interruption wastes little work of a device, and a client that does not read delays jobs instead of filling
memory. Leaving a segment before its end hangs up on its job, so that an interruption, a client that vanishes and a
gateway that stops are handled alike.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Final, Generic, Protocol, TypeVar

from bus import wire
from bus.errors import BusError, TooMany
from gateway.jobs.listening import AudioStream, open_stream
from gateway.jobs.service import Jobs
from gateway.sockets.queue import Action, S, Segment, SegmentQueue

#: How long a segment waits for the socket's own earlier jobs to be counted no more, and how often it retries.
_PATIENCE_S: Final = 0.5
_RETRY_S: Final = 0.02

S_contra = TypeVar("S_contra", bound=Segment, contravariant=True)


class SegmentHandler(Protocol[S_contra]):
    """How a dialect plays a segment."""

    def build_job(self, segment: S_contra) -> wire.Job:
        """A validated job for the segment. Raises BusError."""
        ...

    async def play(self, segment: S_contra, stream: AudioStream, pieces: AsyncIterator[bytes]) -> None:
        """Send the segment's audio; `pieces` are those of `stream`. Raises BusError; an interruption cancels it."""
        ...

    async def report_failure(self, segment: S_contra, error: BusError) -> None:
        """Send that the segment's job was refused or failed, before or after some of its audio."""
        ...


class _SegmentJob(Generic[S]):
    """A segment's job, from its submission until it is left. A task of its own holds it: it is played later."""

    def __init__(self, jobs: Jobs, tasks: asyncio.TaskGroup, handler: SegmentHandler[S], segment: S) -> None:
        self._jobs = jobs
        self._handler = handler
        self._segment = segment
        self._stream: AudioStream | None = None
        self._error: BusError | None = None
        self._is_decided = asyncio.Event()
        self._is_left = asyncio.Event()
        self._task = tasks.create_task(self._hold(), name="segment")

    async def _hold(self) -> None:
        try:
            async with open_stream(self._jobs, self._handler.build_job(self._segment)) as stream:
                self._stream = stream
                self._is_decided.set()
                await self._is_left.wait()
        except BusError as error:
            self._error = error
            self._is_decided.set()

    async def stream(self) -> AudioStream:
        """The stream, once the job is accepted. Raises BusError if it is refused; then there is nothing to leave."""
        await self._is_decided.wait()
        if self._error is not None:
            await asyncio.wait((self._task,))
            raise self._error
        assert self._stream is not None
        return self._stream

    async def leave(self) -> None:
        """Hang up on the job, unless its end was read. Returns once that is done."""
        self._is_left.set()
        if not self._is_decided.is_set():
            self._task.cancel()
        await asyncio.wait((self._task,))


class _Pieces:
    """The pieces of a stream; calls `on_piece` when one has arrived."""

    def __init__(self, pieces: AsyncIterator[bytes], on_piece: Callable[[], None]) -> None:
        self._pieces = pieces
        self._on_piece = on_piece

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        pcm = await anext(self._pieces)
        self._on_piece()
        return pcm


class Playback(Generic[S]):
    """Plays the segments of one socket and runs the actions between them, in a task that ends with the queue."""

    def __init__(self, jobs: Jobs, tasks: asyncio.TaskGroup, handler: SegmentHandler[S]) -> None:
        """`tasks` must end with the socket."""
        self.queue: SegmentQueue[S] = SegmentQueue()
        #: Set while nothing is queued or played.
        self.idle = asyncio.Event()
        self.idle.set()
        self._jobs = jobs
        self._tasks = tasks
        self._handler = handler
        self._task: asyncio.Task[None] | None = None
        #: The job of the queue's first segment, if it was prefetched.
        self._prefetched: _SegmentJob[S] | None = None
        #: Whether audio of the segment that is played has arrived.
        self._has_audio = False

    def is_busy(self) -> bool:
        """Whether anything is queued or played."""
        return not self.idle.is_set()

    async def until_idle(self) -> None:
        """Wait until nothing is queued or played."""
        await self.idle.wait()

    def enqueue(self, segment: S) -> None:
        """Play `segment` after everything that was queued before it."""
        self._put(segment)
        self._prefetch()

    def enqueue_action(self, action: Action) -> None:
        """Run `action` once everything that was queued before it has been played."""
        self._put(action)

    async def interrupt(self) -> None:
        """Drop the queue and stop. On return nothing more of any segment is sent, and their jobs have been left."""
        self.queue.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    def _put(self, item: S | Action) -> None:
        self.queue.put(item)
        if self.idle.is_set():
            self.idle.clear()
            self._task = self._tasks.create_task(self._run(), name="playback")

    async def _run(self) -> None:
        try:
            while self.queue:
                item = self.queue.pop()
                if isinstance(item, Segment):
                    await self._play(item)
                else:
                    await item()
        finally:
            self.idle.set()
            prefetched, self._prefetched = self._prefetched, None
            if prefetched is not None:
                await prefetched.leave()

    async def _play(self, segment: S) -> None:
        try:
            job, stream = await self._accepted(segment)
        except BusError as error:
            await self._handler.report_failure(segment, error)
            return
        try:
            async with aclosing(aiter(stream)) as pieces:
                await self._handler.play(segment, stream, _Pieces(pieces, self._on_piece))
        except BusError as error:
            await self._handler.report_failure(segment, error)
        finally:
            self._has_audio = False
            await job.leave()

    async def _accepted(self, segment: S) -> tuple[_SegmentJob[S], AudioStream]:
        """The segment's job, prefetched or submitted now, once it is accepted. Raises BusError."""
        # Only the queue's first segment is ever prefetched, and that is this one now.
        job, self._prefetched = self._prefetched, None
        patience_s = _PATIENCE_S
        while True:
            job = job or _SegmentJob(self._jobs, self._tasks, self._handler, segment)
            try:
                return job, await job.stream()
            except asyncio.CancelledError:
                await job.leave()
                raise
            except TooMany as error:
                # The segment before was counted when this one was prefetched, and a job that was left is counted
                # until that is settled.
                if error.limit != "concurrent_jobs" or patience_s <= 0:
                    raise
            job = None
            patience_s -= _RETRY_S
            await asyncio.sleep(_RETRY_S)

    def _on_piece(self) -> None:
        if not self._has_audio:
            self._has_audio = True
            self._prefetch()

    def _prefetch(self) -> None:
        """Submit the job of the next segment, once the current one has audio and if a next one is queued."""
        if not self._has_audio or self._prefetched is not None:
            return
        following = self.queue.first_segment
        if following is not None:
            self._prefetched = _SegmentJob(self._jobs, self._tasks, self._handler, following)
