"""What one socket says: lines in their order, each a job of its own, the next one asked for while this one plays.

One line ahead and no more: a barge-in wastes little of a device's work, and a client that does not read holds back what
is asked for, not memory. Leaving a line before its end is hanging up on its job, so that a barge-in, a client that
vanishes and a gateway that stops are one thing.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from bus import wire
from bus.errors import BusError, Invalid, TooMany
from gateway.jobs.listening import AudioStream, open_stream
from gateway.jobs.service import Jobs

#: Of text that has not begun to be said, and of what waits to be said or told.
MAX_WAITING_CHARS: Final = 256 << 10
MAX_WAITING_LINES: Final = 4096

#: How long a line waits for jobs of its own socket to count no more, looking again and again.
_PATIENCE_S: Final = 0.5
_AGAIN_S: Final = 0.02

Note = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Line:
    """One text to be said."""

    text: str

    @property
    def num_chars(self) -> int:
        """What it takes of the room for what waits."""
        return len(self.text)


L = TypeVar("L", bound=Line)
L_contra = TypeVar("L_contra", bound=Line, contravariant=True)


class Voice(Protocol[L_contra]):
    """How a dialect says a line."""

    def job(self, line: L_contra) -> wire.Job:
        """A complete job for it. Raises BusError."""
        ...

    async def play(self, line: L_contra, stream: AudioStream, pieces: AsyncIterator[bytes]) -> None:
        """Send the line's sound, whose pieces these are. Raises BusError as they do; cancelled by a barge-in."""
        ...

    async def failed(self, line: L_contra, error: BusError) -> None:
        """Tell that the line's job was refused or ended badly, before or after some of its sound."""
        ...


class _Take(Generic[L]):
    """A line's job, from its submission until it is left. A task of its own holds it: whoever plays it comes later."""

    def __init__(self, jobs: Jobs, tasks: asyncio.TaskGroup, voice: Voice[L], line: L) -> None:
        self.line = line
        self._jobs = jobs
        self._voice = voice
        self._stream: AudioStream | None = None
        self._error: BusError | None = None
        self._is_known, self._is_left = asyncio.Event(), asyncio.Event()
        self._task = tasks.create_task(self._hold(), name="line")

    async def _hold(self) -> None:
        try:
            async with open_stream(self._jobs, self._voice.job(self.line)) as stream:
                self._stream = stream
                self._is_known.set()
                await self._is_left.wait()
        except BusError as error:
            self._error = error
            self._is_known.set()

    async def accepted(self) -> None:
        """Raises BusError if the job was refused; nothing is left to leave then."""
        await self._is_known.wait()
        if self._error is not None:
            await asyncio.wait((self._task,))
            raise self._error

    @property
    def stream(self) -> AudioStream:
        """Of an accepted job."""
        assert self._stream is not None
        return self._stream

    async def leave(self) -> None:
        """Hang up, unless its end was heard."""
        self._is_left.set()
        if not self._is_known.is_set():
            self._task.cancel()
        await asyncio.wait((self._task,))


class _Pieces:
    """A sound's pieces, with word of the first."""

    def __init__(self, pieces: AsyncIterator[bytes], begun: Callable[[], None]) -> None:
        self._pieces, self._begun = pieces, begun

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        pcm = await anext(self._pieces)
        self._begun()
        return pcm


class Speaker(Generic[L]):
    def __init__(self, jobs: Jobs, tasks: asyncio.TaskGroup, voice: Voice[L]) -> None:
        """`tasks` must end with the socket."""
        self._jobs = jobs
        self._tasks = tasks
        self._voice = voice
        self._queue: deque[L | Note] = deque()
        #: Of the lines in the queue.
        self._num_chars = 0
        self._task: asyncio.Task[None] | None = None
        self._ahead: _Take[L] | None = None
        #: Whether the line that is being said is heard already.
        self._has_begun = False
        #: Set while there is nothing to say.
        self.quiet = asyncio.Event()
        self.quiet.set()

    def check_room(self, num_chars: int) -> None:
        """Raises Invalid if with so many characters more too much would wait to be said."""
        waiting = num_chars + self._num_chars
        if waiting > MAX_WAITING_CHARS:
            raise Invalid(
                f"text: {waiting} characters would wait to be said, the limit is {MAX_WAITING_CHARS}; the message was "
                "not heeded",
                "text",
            )
        if len(self._queue) > MAX_WAITING_LINES:
            raise Invalid(
                f"text: {len(self._queue)} sentences wait to be said, the limit is {MAX_WAITING_LINES}; the message "
                "was not heeded",
                "text",
            )

    @property
    def num_waiting_lines(self) -> int:
        """Those that have not begun."""
        return sum(isinstance(item, Line) for item in self._queue)

    def is_busy(self) -> bool:
        return not self.quiet.is_set()

    def say(self, line: L) -> None:
        """After all that was said before."""
        self._num_chars += line.num_chars
        self._put(line)
        self._prepare()

    def then(self, note: Note) -> None:
        """Run `note` once all that was said before has been heard."""
        self._put(note)

    def _put(self, item: L | Note) -> None:
        self._queue.append(item)
        if self.quiet.is_set():
            self.quiet.clear()
            self._task = self._tasks.create_task(self._work(), name="speaker")

    def forget(self) -> None:
        """Say nothing more after the line that is being said."""
        self._queue.clear()
        self._num_chars = 0

    async def hush(self) -> None:
        """Say no more: when this returns, nothing more of any line is sent, and their jobs have been left."""
        self.forget()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _work(self) -> None:
        try:
            while self._queue:
                item = self._queue.popleft()
                if isinstance(item, Line):
                    self._num_chars -= item.num_chars
                    await self._say(item)
                else:
                    await item()
        finally:
            self.quiet.set()
            ahead, self._ahead = self._ahead, None
            if ahead is not None:
                await ahead.leave()

    async def _say(self, line: L) -> None:
        try:
            take = await self._accepted(line)
        except BusError as error:
            await self._voice.failed(line, error)
            return
        try:
            async with aclosing(aiter(take.stream)) as pieces:
                await self._voice.play(line, take.stream, _Pieces(pieces, self._begin))
        except BusError as error:
            await self._voice.failed(line, error)
        finally:
            self._has_begun = False
            await take.leave()

    async def _accepted(self, line: L) -> _Take[L]:
        """The line's job, which was accepted ahead of its turn or is now. Raises BusError."""
        # What is prepared is always the first line of the queue.
        take, self._ahead = self._ahead, None
        patience_s = _PATIENCE_S
        while True:
            take = take or _Take(self._jobs, self._tasks, self._voice, line)
            try:
                await take.accepted()
                return take
            except asyncio.CancelledError:
                await take.leave()
                raise
            except TooMany as error:
                # The line before counted when this one was prepared, and what was left counts until that is settled.
                if error.limit != "concurrent_jobs" or patience_s <= 0:
                    raise
            take = None
            patience_s -= _AGAIN_S
            await asyncio.sleep(_AGAIN_S)

    def _begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._prepare()

    def _prepare(self) -> None:
        """Ask for the next line's sound, if this one is heard already and the next is there."""
        if not self._has_begun or self._ahead is not None:
            return
        following = next((item for item in self._queue if isinstance(item, Line)), None)
        if following is not None:
            self._ahead = _Take(self._jobs, self._tasks, self._voice, following)
