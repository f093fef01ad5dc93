"""JetStream as we use it: awaited publishes, single and paged reads, deletes. Errors are ours; waits are bounded.

Reads come in two kinds. `last` asks the stream's leader and sees every write that was acknowledged; the fence and every
decision about a log's end use it. `page` may be answered by a replica that is behind; replaying to a listener uses it.
"""

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import msgspec

from bus import retry
from bus.errors import ApiError, Full, Malformed, Unreachable
from bus.settings import BusSettings
from bus.transport.connection import Connection
from bus.transport.parser import Message

T = TypeVar("T")

WRONG_LAST_SEQUENCE: Final = 10071
_MESSAGE_NOT_FOUND: Final = 10037
_STREAM_NOT_FOUND: Final = 10059
#: Stream or server at a limit: bytes or messages (10077), storage (10047), memory (10028), resources (10023).
_FULL: Final = frozenset({10077, 10047, 10028, 10023})
#: A leader is being elected (10008, 10076), is new and does not know the stream's end yet (10163), or an earlier
#: publish of ours, under the same fence (10164) or with the same id (10158), is still on its way to the other copies.
_PASSING: Final = frozenset({10008, 10076, 10158, 10163, 10164})
_FIRST_RETRY_S: Final = 0.02
_LAST_RETRY_S: Final = 0.5

EXPECT_LAST: Final = "Nats-Expected-Last-Subject-Sequence"
EXPECT_LAST_SUBJECT: Final = "Nats-Expected-Last-Subject-Sequence-Subject"
MESSAGE_ID: Final = "Nats-Msg-Id"


class PubAck(msgspec.Struct, frozen=True):
    seq: int
    duplicate: bool = False


class _Error(msgspec.Struct):
    err_code: int = 0
    description: str = ""


class _PublishAnswer(msgspec.Struct):
    seq: int = 0
    duplicate: bool = False
    error: _Error | None = None


class _ApiAnswer(msgspec.Struct):
    error: _Error | None = None


class Stored:
    """One message of a stream."""

    __slots__ = ("message", "seq", "stored_at")

    def __init__(self, message: Message, seq: int, stored_at: str) -> None:
        self.message, self.seq = message, seq
        #: RFC 3339, the server's clock.
        self.stored_at = stored_at


_publish_answer = msgspec.json.Decoder(_PublishAnswer)
_api_answer = msgspec.json.Decoder(_ApiAnswer)


def _check(error: _Error | None) -> None:
    if error is not None:
        kind = Full if error.err_code in _FULL else ApiError
        raise kind(error.err_code, error.description)


def retry_delay_s(attempt: int) -> float:
    """Seconds before retry number `attempt` (0 first) of a request to JetStream: from 20 ms to 0.5 s, with jitter."""
    return retry.delay_s(attempt, _FIRST_RETRY_S, _LAST_RETRY_S)


class JetStream:
    def __init__(self, connection: Connection, settings: BusSettings) -> None:
        self.connection = connection
        self._patience_s = settings.election_patience_s
        self._timeout_s = settings.request_timeout_s

    async def patiently(self, what: str, operation: Callable[[], Awaitable[T]], patience_s: float | None = None) -> T:
        """Repeat `operation` while no leader answers. It must be safe to repeat.

        Raises:
            Unreachable: it did not succeed within `patience_s` (default: what an election takes).
        """
        patience_s = self._patience_s if patience_s is None else patience_s
        deadline = time.monotonic() + patience_s
        for attempt in range(1_000_000):
            try:
                return await operation()
            except Unreachable as error:
                reason: Exception = error
            except ApiError as error:
                if error.err_code not in _PASSING:
                    raise
                reason = error
            delay_s = retry_delay_s(attempt)
            if time.monotonic() + delay_s < deadline:
                await asyncio.sleep(delay_s)
            # Asked again after sleeping: a process that was frozen there must not repeat what the server, which knows a
            # message id for some minutes only, would take for new.
            if time.monotonic() + delay_s >= deadline:
                raise Unreachable(f"{what}: gave up after {patience_s:g} s: {reason}") from reason
        raise AssertionError("unreachable: the deadline ends the loop")

    async def api(self, subject: str, body: object = None, timeout_s: float | None = None) -> dict[str, Any]:
        """One JetStream API call. Raises ApiError, Full or Unreachable."""
        data = b"" if body is None else msgspec.json.encode(body)
        message = await self.connection.request(f"$JS.API.{subject}", data, timeout_s=timeout_s)
        _check(_api_answer.decode(message.data).error)
        answer: dict[str, Any] = msgspec.json.decode(message.data)
        return answer

    async def publish(
        self, subject: str, data: bytes, headers: dict[str, str] | None = None, patience_s: float | None = None
    ) -> PubAck:
        """Store one message and wait for its acknowledgement.

        Repeated while a leader is elected or the connection is down, so give it a `MESSAGE_ID` unless storing it twice
        does no harm. Cancelling leaves it open whether the message was stored.

        Raises:
            ApiError: refused; `WRONG_LAST_SEQUENCE` if an expectation failed.
            Full: the stream takes no more.
            Unreachable: no acknowledgement within `patience_s`.
        """

        async def once() -> PubAck:
            message = await self.connection.request(subject, data, headers=headers, timeout_s=self._timeout_s)
            try:
                answer = _publish_answer.decode(message.data)
            except msgspec.DecodeError as error:
                raise Malformed(f"PubAck of {subject}: {error}") from error
            _check(answer.error)
            return PubAck(answer.seq, answer.duplicate)

        return await self.patiently(f"publish to {subject}", once, patience_s)

    async def last(self, stream: str, subject: str) -> Stored | None:
        """The newest message of `subject`, read from the leader; None if there is none."""
        return await self._get(stream, {"last_by_subj": subject})

    async def at(self, stream: str, seq: int) -> Stored | None:
        """The message with this sequence, read from the leader; None if it is gone."""
        return await self._get(stream, {"seq": seq})

    async def _get(self, stream: str, query: dict[str, Any]) -> Stored | None:
        async def once() -> Stored | None:
            try:
                answer = await self.api(f"STREAM.MSG.GET.{stream}", query)
            except ApiError as error:
                if error.err_code == _MESSAGE_NOT_FOUND:
                    return None
                raise
            found = answer["message"]
            head = base64.b64decode(found["hdrs"]) if "hdrs" in found else None
            message = Message(found["subject"], "", head, base64.b64decode(found.get("data", "")))
            return Stored(message, found["seq"], found["time"])

        return await self.patiently(f"read {stream} {query}", once)

    async def holds(self, stream: str, seq: int) -> bool:
        """Whether the message with this sequence is there. Where there are several copies, one may be behind."""

        async def once() -> bool:
            query = msgspec.json.encode({"seq": seq})
            message = await self.connection.request(f"$JS.API.DIRECT.GET.{stream}", query)
            if message.status not in {None, "404"}:
                raise Unreachable(f"direct get of {stream}: {message.status_text}")
            return message.status is None

        return await self.patiently(f"look for {stream} {seq}", once)

    async def direct_next(self, stream: str, subject: str, seq: int) -> tuple[Stored, int] | None:
        """(first message of `subject` at or after `seq`, how many more follow it); None if there is none.

        `subject` may hold wildcards.
        """
        page, pending = await self.page(stream, subject, seq, batch=1)
        return (page[0], pending) if page else None

    async def page(
        self, stream: str, subject: str, seq: int, *, batch: int = 256, max_bytes: int = 1 << 20
    ) -> tuple[list[Stored], int]:
        """Messages of `subject` from `seq` on, oldest first, and how many there are beyond the page.

        A page ends at `batch` messages or after `max_bytes`. Raises Unreachable.
        """
        query = {"batch": batch, "seq": seq, "next_by_subj": subject, "max_bytes": max_bytes}
        data = msgspec.json.encode(query)

        async def once() -> tuple[list[Stored], int]:
            return await self._page_once(stream, data)

        return await self.patiently(f"read {stream} {subject} from {seq}", once)

    async def _page_once(self, stream: str, query: bytes) -> tuple[list[Stored], int]:
        found: list[Stored] = []
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def arrived(message: Message) -> None:
            status = message.status
            if status is None:
                seq = int(message.header("Nats-Sequence") or 0)
                stored_at = message.header("Nats-Time-Stamp") or ""
                message.subject = message.header("Nats-Subject") or message.subject
                found.append(Stored(message, seq, stored_at))
                return
            if ended.done():
                return
            if status == "204":
                ended.set_result(int(message.header("Nats-Num-Pending") or 0))
            elif status == "404":
                ended.set_result(0)
            else:
                ended.set_exception(Unreachable(f"direct get of {stream}: {message.status_text}"))

        await self.connection.up(self._timeout_s)
        with self.connection.inbox(arrived) as inbox, self.connection.fails_with_connection(ended):
            self.connection.publish(f"$JS.API.DIRECT.GET.{stream}", query, reply=inbox)
            try:
                # Not wait_for: in Python 3.11 it forgets a cancellation that comes together with the answer.
                async with asyncio.timeout(self._timeout_s):
                    pending = await ended
            except TimeoutError:
                raise Unreachable(f"direct get of {stream}: no end within {self._timeout_s:g} s") from None
        return found, pending

    async def delete(self, stream: str, seq: int) -> None:
        """Remove one message; idempotent."""

        async def once() -> None:
            try:
                await self.api(f"STREAM.MSG.DELETE.{stream}", {"seq": seq, "no_erase": True})
            except ApiError as error:
                # 10043, 10057: no message with that sequence any more.
                if error.err_code not in {_MESSAGE_NOT_FOUND, 10043, 10057}:
                    raise

        await self.patiently(f"delete {stream} {seq}", once)

    async def info(self, stream: str) -> dict[str, Any]:
        """Stream info. Raises ApiError if there is no such stream."""

        async def once() -> dict[str, Any]:
            return await self.api(f"STREAM.INFO.{stream}")

        return await self.patiently(f"info of {stream}", once)


def is_missing_stream(error: ApiError) -> bool:
    return error.err_code == _STREAM_NOT_FOUND
