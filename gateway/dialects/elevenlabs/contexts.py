"""The contexts of one `multi-stream-input` socket: those that are open, and the ids of those that an error ended."""

import asyncio
from collections.abc import Iterator
from typing import Final

from bus.errors import TooMany
from gateway.dialects.elevenlabs.context import Context
from gateway.dialects.elevenlabs.errors import CONTEXTS

#: Contexts that one socket may have open: each has texts, a job that is played and one that is prefetched.
MAX_CONTEXTS: Final = 16
#: Ids of failed contexts that are remembered; the oldest is forgotten first.
_MAX_FAILED: Final = 1024


class Contexts:
    """Open contexts by id, played side by side."""

    def __init__(self) -> None:
        self._open: dict[str, Context] = {}
        #: In the order in which they failed; the values mean nothing.
        self._failed: dict[str, None] = {}

    def __iter__(self) -> Iterator[tuple[str, Context]]:
        return iter(list(self._open.items()))

    @property
    def num_chars(self) -> int:
        """Characters received in all contexts and not yet played."""
        return sum(context.num_chars for context in self._open.values())

    def get(self, context_id: str) -> Context | None:
        """The open context of this id."""
        return self._open.get(context_id)

    def add(self, context_id: str, context: Context) -> None:
        """Add a context. Raises TooMany if as many are open as a socket may have."""
        if len(self._open) >= MAX_CONTEXTS:
            raise _too_many()
        self._open[context_id] = context

    def remove(self, context_id: str) -> None:
        """Forget a context that has ended: its id may be used again."""
        self._open.pop(context_id, None)
        self._failed.pop(context_id, None)

    def fail(self, context_id: str) -> None:
        """Remove a context, and ignore its id until the client closes it."""
        self.remove(context_id)
        self._failed[context_id] = None
        if len(self._failed) > _MAX_FAILED:
            del self._failed[next(iter(self._failed))]

    def has_failed(self, context_id: str) -> bool:
        """Whether an error ended the context of this id, and the client has not closed it since."""
        return context_id in self._failed

    # What the socket plays is what its contexts play.

    def is_busy(self) -> bool:
        """Whether any context has anything queued or played."""
        return any(context.playback.is_busy() for context in self._open.values())

    async def until_idle(self) -> None:
        """Wait until nothing that is queued now is left to play."""
        for _, context in self:
            await context.playback.until_idle()

    async def interrupt(self) -> None:
        """Drop every queue and stop. On return nothing more is sent, and the jobs have been left."""
        await asyncio.gather(*(context.playback.interrupt() for _, context in self))


def _too_many() -> TooMany:
    error = TooMany(
        f"context_id: {MAX_CONTEXTS} contexts are open, which is the limit of a socket; end one with close_context",
        "context_id",
    )
    error.limit = CONTEXTS
    error.scope = "socket"
    error.allowed = MAX_CONTEXTS
    return error
