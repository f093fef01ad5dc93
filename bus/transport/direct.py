"""Direct reads: answered by any replica of a stream, which may be behind its leader.

Replaying a log to a listener uses them. Whatever decides about a log's end reads from the leader (`jetstream`).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import msgspec

from bus.errors import Unreachable
from bus.transport.connection import Connection
from bus.transport.parser import Message

T = TypeVar("T")


class Retry(Protocol):
    """`JetStream.retry`."""

    async def __call__(
        self, name: str, operation: Callable[[], Awaitable[T]], patience_s: float | None = None
    ) -> T: ...


class Stored(msgspec.Struct, frozen=True, eq=False):
    """One message of a stream."""

    message: Message
    seq: int
    #: RFC 3339, by the server's clock.
    stored_at: str


class DirectReads:
    """Single and paged reads. Each is repeated while no replica answers, as long as an election may take."""

    def __init__(self, connection: Connection, retry: Retry, timeout_s: float) -> None:
        """`timeout_s`: limit of one try."""
        self._connection = connection
        self._retry = retry
        self._timeout_s = timeout_s

    async def holds(self, stream: str, seq: int) -> bool:
        """Whether the message with this sequence exists. Raises Unreachable."""
        return await self.at(stream, seq) is not None

    async def at(self, stream: str, seq: int) -> Stored | None:
        """Return the message with this sequence, None if the replica that answers has none. Raises Unreachable."""
        query = msgspec.json.encode({"seq": seq})

        async def once() -> Stored | None:
            message = await self._connection.request(f"$JS.API.DIRECT.GET.{stream}", query)
            if message.status not in {None, "404"}:
                raise Unreachable(f"direct get from {stream}: {message.status_text}")
            return _stored(message) if message.status is None else None

        return await self._retry(f"read message {seq} of {stream}", once)

    async def next(self, stream: str, subject: str, seq: int) -> tuple[Stored, int] | None:
        """Return the first message of `subject` at or after `seq` and the number that follow it, None if there is none.

        `subject` may hold wildcards. Raises Unreachable.
        """
        page, num_pending = await self.page(stream, subject, seq, batch=1)
        return (page[0], num_pending) if page else None

    async def page(
        self, stream: str, subject: str, seq: int, *, batch: int = 256, max_bytes: int = 1 << 20
    ) -> tuple[list[Stored], int]:
        """Return messages of `subject` from `seq` on, oldest first, and the number that follow the page.

        A page ends at `batch` messages or after `max_bytes`; it holds one message at least, if there is one. Raises
        Unreachable.
        """
        query = msgspec.json.encode({"batch": batch, "seq": seq, "next_by_subj": subject, "max_bytes": max_bytes})

        async def once() -> tuple[list[Stored], int]:
            return await self._page_once(stream, query)

        return await self._retry(f"read {subject} of {stream} from {seq}", once)

    async def _page_once(self, stream: str, query: bytes) -> tuple[list[Stored], int]:
        found: list[Stored] = []
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def on_message(message: Message) -> None:
            status = message.status
            if status is None:
                found.append(_stored(message))
                return
            if ended.done():
                return
            if status == "204":
                ended.set_result(int(message.server_header("Nats-Num-Pending") or 0))
            elif status == "404":
                ended.set_result(0)
            else:
                ended.set_exception(Unreachable(f"direct get from {stream}: {message.status_text}"))

        connection, requested = self._connection, f"$JS.API.DIRECT.GET.{stream}"
        await connection.state.wait_up(self._timeout_s)
        with connection.replies.inbox(on_message) as inbox, connection.replies.failing(ended, requested):
            connection.publish(requested, query, reply=inbox)
            try:
                # Not wait_for: in Python 3.11 it loses a cancellation that comes together with the reply.
                async with asyncio.timeout(self._timeout_s):
                    num_pending = await ended
            except TimeoutError:
                raise Unreachable(f"direct get from {stream}: incomplete after {self._timeout_s:g} s") from None
        return found, num_pending


def _stored(message: Message) -> Stored:
    """The stored message in an answer."""
    message.subject = message.server_header("Nats-Subject") or message.subject
    seq = int(message.server_header("Nats-Sequence") or 0)
    return Stored(message, seq, message.server_header("Nats-Time-Stamp") or "")
