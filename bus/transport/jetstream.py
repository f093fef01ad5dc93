"""JetStream: awaited publishes, reads from the leader, deletes. Errors are ours; every wait has a limit.

Reads come in two kinds. `last` and `at` ask the stream's leader and see every write that was acknowledged; the fence
and every decision about a log's end use them. `direct` may be answered by a replica that is behind; replaying uses it.
"""

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import msgspec

from bus import retry
from bus.errors import ApiError, Full, Malformed, NotPermitted, Unreachable
from bus.settings import BusSettings
from bus.transport.connection import Connection
from bus.transport.direct import DirectReads, Stored
from bus.transport.parser import Message

T = TypeVar("T")

#: JetStream's error code for an expected sequence (`EXPECT_LAST`) that is not the last one any more.
WRONG_LAST_SEQUENCE: Final = 10071
_MESSAGE_NOT_FOUND: Final = 10037
_STREAM_NOT_FOUND: Final = 10059
#: No message with that sequence any more.
_ALREADY_DELETED: Final = frozenset({_MESSAGE_NOT_FOUND, 10043, 10057})
#: Stream or server at a limit: bytes or messages (10077), storage (10047), memory (10028), resources (10023).
_FULL: Final = frozenset({10077, 10047, 10028, 10023})
#: A leader is being elected (10008, 10076), is new and does not know the stream's end yet (10163), or an earlier
#: publish of ours, under the same fence (10164) or with the same id (10158), has not reached the other replicas yet.
_PASSING: Final = frozenset({10008, 10076, 10158, 10163, 10164})
_FIRST_RETRY_S: Final = 0.02
_LAST_RETRY_S: Final = 0.5

EXPECT_LAST: Final = "Nats-Expected-Last-Subject-Sequence"
EXPECT_LAST_SUBJECT: Final = "Nats-Expected-Last-Subject-Sequence-Subject"
MESSAGE_ID: Final = "Nats-Msg-Id"


class PubAck(msgspec.Struct, frozen=True):
    """Acknowledgement of a publish."""

    seq: int
    #: The server had stored a message with the same `MESSAGE_ID` before, under `seq`.
    duplicate: bool = False


class _Error(msgspec.Struct):
    err_code: int = 0
    description: str = ""


class _PublishResponse(msgspec.Struct):
    seq: int = 0
    duplicate: bool = False
    error: _Error | None = None


class _ApiResponse(msgspec.Struct):
    error: _Error | None = None


_publish_response = msgspec.json.Decoder(_PublishResponse)
_api_response = msgspec.json.Decoder(_ApiResponse)


def retry_delay_s(attempt: int) -> float:
    """Seconds before retry number `attempt` (0 first) of a request to JetStream: from 20 ms to 0.5 s, with jitter."""
    return retry.delay_s(attempt, _FIRST_RETRY_S, _LAST_RETRY_S)


class JetStream:
    """Publishes, leader reads and API calls. All are repeated while a leader is elected or the connection is down."""

    def __init__(self, connection: Connection, settings: BusSettings) -> None:
        self.direct = DirectReads(connection, self.retry, settings.request_timeout_s)
        self._connection = connection
        self._patience_s = settings.election_patience_s
        self._timeout_s = settings.request_timeout_s

    async def retry(self, name: str, operation: Callable[[], Awaitable[T]], patience_s: float | None = None) -> T:
        """Repeat `operation` while no leader answers. It must be safe to repeat; `name` is for the error.

        Raises:
            Unreachable: it did not succeed within `patience_s` (default: the setting `election_patience_s`).
            NotPermitted: at once, if this user may not send the request.
        """
        patience_s = self._patience_s if patience_s is None else patience_s
        deadline = time.monotonic() + patience_s
        for attempt in range(1_000_000):
            try:
                return await operation()
            except NotPermitted:
                raise
            except Unreachable as error:
                reason: Exception = error
            except ApiError as error:
                if error.err_code not in _PASSING:
                    raise
                reason = error
            delay_s = retry_delay_s(attempt)
            if time.monotonic() + delay_s < deadline:
                await asyncio.sleep(delay_s)
            # Checked again after the sleep: the server keeps message ids for some minutes only, so a process that was
            # frozen in it would store its message a second time.
            if time.monotonic() + delay_s >= deadline:
                raise Unreachable(f"{name}: gave up after {patience_s:g} s: {reason}") from reason
        raise AssertionError("unreachable: the deadline ends the loop")

    async def api(self, subject: str, body: object = None, timeout_s: float | None = None) -> dict[str, Any]:
        """Call the JetStream API once, without a retry. Raises ApiError, Full or Unreachable."""
        data = b"" if body is None else msgspec.json.encode(body)
        message = await self._connection.request(f"$JS.API.{subject}", data, timeout_s=timeout_s)
        _check(_api_response.decode(message.data).error)
        response: dict[str, Any] = msgspec.json.decode(message.data)
        return response

    async def publish(
        self, subject: str, data: bytes, headers: dict[str, str] | None = None, patience_s: float | None = None
    ) -> PubAck:
        """Store one message and wait for its acknowledgement.

        Repeated while a leader is elected or the connection is down, so give it a `MESSAGE_ID` unless storing it twice
        does no harm. Cancelling leaves open whether the message was stored.

        Raises:
            ApiError: refused; `WRONG_LAST_SEQUENCE` if an expectation failed.
            Full: the stream or the server is at a limit.
            Unreachable: no acknowledgement within `patience_s`.
        """

        async def once() -> PubAck:
            message = await self._connection.request(subject, data, headers=headers, timeout_s=self._timeout_s)
            try:
                response = _publish_response.decode(message.data)
            except msgspec.DecodeError as error:
                raise Malformed(f"PubAck of {subject}: {error}") from error
            _check(response.error)
            return PubAck(response.seq, response.duplicate)

        return await self.retry(f"publish to {subject}", once, patience_s)

    async def last(self, stream: str, subject: str) -> Stored | None:
        """Return the newest message of `subject`, read from the leader; None if there is none. Raises Unreachable."""
        return await self._get(stream, {"last_by_subj": subject})

    async def at(self, stream: str, seq: int) -> Stored | None:
        """Return the message with this sequence, read from the leader; None if it is gone. Raises Unreachable."""
        return await self._get(stream, {"seq": seq})

    async def delete(self, stream: str, seq: int) -> None:
        """Remove one message; idempotent. Raises Unreachable."""

        async def once() -> None:
            try:
                await self.api(f"STREAM.MSG.DELETE.{stream}", {"seq": seq, "no_erase": True})
            except ApiError as error:
                if error.err_code not in _ALREADY_DELETED:
                    raise

        await self.retry(f"delete message {seq} of {stream}", once)

    async def info(self, stream: str) -> dict[str, Any]:
        """Return the stream info. Raises ApiError if there is no such stream, Unreachable."""

        async def once() -> dict[str, Any]:
            return await self.api(f"STREAM.INFO.{stream}")

        return await self.retry(f"read the info of {stream}", once)

    async def _get(self, stream: str, query: dict[str, Any]) -> Stored | None:
        async def once() -> Stored | None:
            try:
                response = await self.api(f"STREAM.MSG.GET.{stream}", query)
            except ApiError as error:
                if error.err_code == _MESSAGE_NOT_FOUND:
                    return None
                raise
            found = response["message"]
            head = base64.b64decode(found["hdrs"]) if "hdrs" in found else None
            message = Message(found["subject"], "", head, base64.b64decode(found.get("data", "")))
            return Stored(message, found["seq"], found["time"])

        return await self.retry(f"read {query} of {stream}", once)


def is_missing_stream(error: ApiError) -> bool:
    """Whether JetStream refused because the stream does not exist."""
    return error.err_code == _STREAM_NOT_FOUND


def _check(error: _Error | None) -> None:
    """Raise Full or ApiError for an error of a response."""
    if error is not None:
        kind = Full if error.err_code in _FULL else ApiError
        raise kind(error.err_code, error.description)
