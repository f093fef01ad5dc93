"""nats-py through its public functions only: slower, but independent of its version.

The setting `own_parser = false` uses it, so that an upgrade of nats-py is never blocked by `nats_py`. Its drawbacks: a
message that was being written when the connection broke may be sent after the reconnect, the order of messages of
different subscriptions is not kept, a message costs about four times the CPU, and a frozen server can delay closing.
"""

import asyncio
import contextlib
import itertools
import re
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final, Self

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import AuthorizationError
from nats.errors import Error as NatsError

from bus.errors import NoServer, Unreachable
from bus.settings import BusSettings, SettingsError, redacted
from bus.telemetry.logging import logger
from bus.transport.parser import Callback, Message, encode
from bus.transport.state import ConnectionState

log = logger(__name__)

_OPTIONS: Final[dict[str, Any]] = {
    "max_reconnect_attempts": -1,
    "reconnect_time_wait": 0.1,
    "ping_interval": 2,
    "max_outstanding_pings": 2,
    "connect_timeout": 2,
}
#: As nats-server reports it, and nats-py in lower case.
_NOT_PERMITTED: Final = re.compile(r'permissions violation for (?P<act>publish|subscription) to "(?P<subject>[^"]+)"')
#: Keys under which nats-py puts the status line of a message among its headers.
_STATUS: Final = "Status"
_DESCRIPTION: Final = "Description"


async def connect_client(
    client: Any,
    settings: BusSettings,
    name: str,
    inbox_prefix: str,
    patience_s: float,
    *,
    on_down: Callable[[], None],
    on_up: Callable[[], None],
    on_closed: Callable[[], None],
    on_refused: Callable[[str, str], None],
) -> None:
    """Connect `client` to a server of `settings.nats`.

    From then on `on_down` is called when the connection breaks or is closed, `on_up` when it is back and all
    subscriptions have been sent again, `on_closed` when it is closed for good, `on_refused` as the callback of
    `ConnectionState`.

    Raises SettingsError for a `nats_ca` that cannot be used; NoServer if none answered within `patience_s`; Unreachable
    if one refused the connection: at once for a name or password that it does not accept.
    """
    trust = {"tls": _trusting(settings.nats_ca)} if settings.nats_ca else {}
    failures = _Failures(redacted(settings.nats), on_refused)
    try:
        async with asyncio.timeout(patience_s):
            failures.connecting = asyncio.ensure_future(
                client.connect(
                    settings.nats.split(","),
                    name=name,
                    inbox_prefix=inbox_prefix,
                    error_cb=failures.on_error,
                    disconnected_cb=_as_coroutine(on_down),
                    reconnected_cb=_as_coroutine(on_up),
                    closed_cb=_as_coroutine(on_closed),
                    **_OPTIONS,
                    **trust,
                )
            )
            await failures.connecting
    except (TimeoutError, NatsError, OSError) as error:
        raise failures.as_error(patience_s, error) from error
    except asyncio.CancelledError as error:
        if not failures.is_final:
            raise
        raise failures.as_error(patience_s, error) from error
    finally:
        failures.connecting = None


def _trusting(ca: str) -> ssl.SSLContext:
    """A context that also trusts the authorities in the file `ca`. Raises SettingsError."""
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(f"--nats-ca: {ca}: {error.strerror or error}") from error


class _Failures:
    """The failed attempts of one first connection. nats-py tries again after each."""

    def __init__(self, url: str, on_refused: Callable[[str, str], None]) -> None:
        """`url`: without a password. `on_refused`: as of `connect_client`."""
        self._url = url
        self._on_refused = on_refused
        self._reason = ""
        #: The last text of a server's own, about a password for example; empty if none was reached.
        self._refusal = ""
        #: Whether another attempt would fail in the same way.
        self.is_final = False
        #: The first connection while it is tried.
        self.connecting: asyncio.Future[None] | None = None

    async def on_error(self, error: Exception) -> None:
        """An attempt failed, or, later, an error on the connection was reported."""
        reason = str(error) or type(error).__name__
        if self.connecting is None:
            log.debug("nats.error", error=f"{type(error).__name__}: {error}")
            if refused := _NOT_PERMITTED.search(reason):
                self._on_refused(refused["act"], refused["subject"])
            return
        if reason != self._reason:
            log.warning("nats.connect_failed", url=self._url, error=reason)
        self._reason = reason
        if isinstance(error, NatsError):
            self._refusal = reason
        if isinstance(error, AuthorizationError) or "authorization violation" in reason.lower():
            self.is_final = True
            self.connecting.cancel()

    def as_error(self, patience_s: float, last: BaseException) -> Unreachable:
        """The error that ends the first connection; `last` is the exception of the last attempt."""
        if self._refusal:
            return Unreachable(f"NATS at {self._url} refused the connection: {self._refusal}")
        reason = self._reason or ("" if isinstance(last, TimeoutError) else str(last))
        return NoServer(f"no NATS server at {self._url} within {patience_s:g} s{f': {reason}' if reason else ''}")


def _as_coroutine(function: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    async def callback() -> None:
        function()

    return callback


class PublicLink:
    """A client of nats-py. One task executes sends and subscriptions in the order of the calls."""

    #: Not known from public functions: a longer wait is the safe answer.
    is_clustered = True

    def __init__(self, state: ConnectionState) -> None:
        self._state = state
        self._client = Client()
        self._sids = itertools.count(1)
        self._subscriptions: dict[int, Subscription] = {}
        self._pending: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        self._sender: asyncio.Task[None] | None = None

    @classmethod
    async def connect(
        cls, settings: BusSettings, name: str, inbox_prefix: str, patience_s: float, state: ConnectionState
    ) -> Self:
        """Connect, and report to `state` from then on. Raises as `connect_client` does."""
        link = cls(state)
        await connect_client(
            link._client,
            settings,
            name,
            inbox_prefix,
            patience_s,
            on_down=link._went_down,
            on_up=state.set_up,
            on_closed=state.closed.set,
            on_refused=state.set_refused,
        )
        link._sender = asyncio.create_task(link._send_pending(), name="sends to NATS")  # cancelled by `close`
        return link

    def send(self, subject: str, data: bytes, reply: str, headers: dict[str, str] | None) -> None:
        """Publish, unless the connection breaks before. Raises ValueError."""
        encode(subject, data, reply, headers, self._client.max_payload)  # for its checks
        generation = self._state.generation

        async def publish() -> None:
            if self._state.is_up and self._state.generation == generation:
                await self._client.publish(subject, data, reply=reply, headers=headers)

        self._pending.put_nowait(publish)

    def subscribe(self, subject: str, queue: str, callback: Callback) -> int:
        """Call `callback` with each message; returns an id for `unsubscribe`. Survives reconnects."""
        sid = next(self._sids)

        async def deliver(message: Msg) -> None:
            try:
                callback(_message_of(message))
            except Exception:
                log.exception("bus.callback_failed", subject=message.subject)

        async def subscribe() -> None:
            self._subscriptions[sid] = await self._client.subscribe(
                subject, queue=queue, cb=deliver, pending_msgs_limit=0, pending_bytes_limit=0
            )

        self._pending.put_nowait(subscribe)
        return sid

    def unsubscribe(self, sid: int, grace_s: float) -> None:
        """End a subscription; idempotent. With `grace_s` messages on the wire still reach the callback."""

        async def unsubscribe() -> None:
            subscription = self._subscriptions.pop(sid, None)
            if subscription is None:
                return
            if grace_s > 0:
                await self._wait_written()
                await subscription.drain()  # type: ignore[no-untyped-call]
            else:
                await subscription.unsubscribe()

        self._pending.put_nowait(unsubscribe)

    async def ping(self, seen: "asyncio.Future[None]", timeout_s: float) -> None:
        """Set a result on `seen` once the server has processed everything sent before."""

        async def ping() -> None:
            await self._wait_written()
            # Not awaited by the caller: nats-py's read loop ends on a ping whose future was cancelled.
            await self._client.flush(timeout_s)  # type: ignore[arg-type]  # any number of seconds will do
            # Messages that came before the PONG may still wait for the tasks of their subscriptions.
            while any(subscription.pending_msgs for subscription in self._subscriptions.values()):  # noqa: ASYNC110
                await asyncio.sleep(0)
            # Without a connection nats-py's flush returns at once; the caller is notified of that by `state`.
            if self._client.is_connected and not seen.done():
                seen.set_result(None)

        self._pending.put_nowait(ping)

    async def drain(self, timeout_s: float) -> None:
        """Wait until nats-py has taken all pending messages. Raises Unreachable."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._pending.join()
        except TimeoutError:
            raise Unreachable(f"the server read nothing for {timeout_s:g} s") from None

    async def close(self, timeout_s: float) -> None:
        """Send pending messages and close for good."""
        with contextlib.suppress(Unreachable):
            await self.drain(timeout_s)
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
        try:
            async with asyncio.timeout(timeout_s):
                await self._client.close()
        except (TimeoutError, OSError) as error:
            log.debug("nats.error", error=f"close: {type(error).__name__}: {error}")

    async def _wait_written(self) -> None:
        """Wait until earlier messages are written. A PING of nats-py would overtake those that its task still holds."""
        while self._client.pending_data_size and self._state.is_up:  # noqa: ASYNC110 - nats-py has no event for it
            await asyncio.sleep(0)

    async def _send_pending(self) -> None:
        while True:
            operation = await self._pending.get()
            try:
                await operation()
            except Exception as error:  # noqa: BLE001 - one message is lost; the others must still be sent
                log.debug("nats.error", error=f"{type(error).__name__}: {error}")
            finally:
                self._pending.task_done()

    def _went_down(self) -> None:
        if self._state.is_up and not self._client.is_closed:
            log.warning("nats.disconnected")
        self._state.set_down("connection lost")


def _message_of(message: Msg) -> Message:
    """Convert a message of nats-py, whose headers are a dictionary, to ours, whose header block is raw."""
    if message.headers is None:
        return Message(message.subject, message.reply, None, message.data)
    headers = dict(message.headers)
    status = " ".join(filter(None, (headers.pop(_STATUS, ""), headers.pop(_DESCRIPTION, ""))))
    lines = [f"NATS/1.0 {status}" if status else "NATS/1.0", *(f"{name}: {value}" for name, value in headers.items())]
    return Message(message.subject, message.reply, "\r\n".join([*lines, "", ""]).encode(), message.data)
