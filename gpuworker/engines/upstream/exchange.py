"""One HTTP request, made by a thread of its own and read by the device's thread without waiting.

The only module that uses `http.client`, and through it the network.
"""

import contextlib
import http.client
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from gpuworker.engines.upstream.errors import Cut, NotThere

_READ_BYTES: Final = 64 << 10
#: Bytes of an answer that wait to be taken before the thread stops reading, so that the server has to wait.
_BUFFER_BYTES: Final = 512 << 10
#: The reader of an exchange counts its limits itself; the socket's only end a thread that is left.
_MARGIN_S: Final = 5.0
#: Between two looks at a small answer.
_POLL_S: Final = 0.01
#: Of an answer that is read as a whole.
MAX_TEXT_BYTES: Final = 1 << 20


class Address(NamedTuple):
    """A server, and the path below which its API is."""

    host: str
    port: int
    base: str
    is_tls: bool

    @classmethod
    def of(cls, url: str) -> "Address":
        """The address of a URL. Raises ValueError for a port that is none."""
        parts = urlsplit(url)
        is_tls = parts.scheme == "https"
        return cls(parts.hostname or "", parts.port or (443 if is_tls else 80), parts.path.rstrip("/"), is_tls)

    def connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """A connection that is not open yet."""
        kind = http.client.HTTPSConnection if self.is_tls else http.client.HTTPConnection
        return kind(self.host, self.port, timeout=timeout_s)


class Timeouts(NamedTuple):
    """Limits of one exchange, in seconds."""

    #: Until the connection is made.
    connect_s: float
    #: Until the first of the answer.
    first_s: float
    #: The longest silence after that.
    silence_s: float


class Request(NamedTuple):
    """A request to an address."""

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = MappingProxyType({})


class Head(NamedTuple):
    """The beginning of an answer. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]

    @property
    def media(self) -> str:
        """Its media type, in lower case and without parameters; "" if it has none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class End(NamedTuple):
    """The whole answer has arrived, as far as HTTP can say."""


class Exchange:
    """Begins at once. `poll` gives the head, the body in pieces, and the end; `close` ends it at any point."""

    def __init__(self, address: Address, request: Request, timeouts: Timeouts) -> None:
        self._address = address
        self._request = request
        self._timeouts = timeouts
        self._arrived: deque[Head | bytes | End | Cut] = deque()
        self._num_bytes = 0
        self._changed = threading.Condition()
        self._is_closed = False
        self._socket: socket.socket | None = None
        threading.Thread(target=self._run, name="upstream", daemon=True).start()

    def poll(self) -> Head | bytes | End | None:
        """The item that arrived next; None if none has. Raises Cut, NotThere."""
        with self._changed:
            if not self._arrived:
                return None
            item = self._arrived.popleft()
            if isinstance(item, bytes):
                self._num_bytes -= len(item)
                self._changed.notify()
        if isinstance(item, Cut):
            raise item
        return item

    def close(self) -> None:
        """Close the connection, which also wakes the thread that reads it. Idempotent; returns at once."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        connection = self._address.connection(self._timeouts.connect_s)
        try:
            self._put(self._exchange(connection))
        except (OSError, http.client.HTTPException) as error:
            self._put(Cut(_described(error)))
        except Cut as error:
            self._put(error)
        except Exception as error:  # noqa: BLE001  # whatever http.client makes of an answer: its reader waits
            self._put(Cut(_described(error)))
        finally:
            connection.close()

    def _exchange(self, connection: http.client.HTTPConnection) -> End:
        try:
            connection.connect()
        except OSError as error:
            raise NotThere(_described(error)) from error
        with self._changed:
            if self._is_closed:
                return End()
            # Kept here: http.client drops its own reference once the answer has begun.
            self._socket = connection.sock
        connection.sock.settimeout(self._timeouts.first_s + _MARGIN_S)
        request = self._request
        connection.request(request.method, self._address.base + request.path, request.body or None, request.headers)
        with connection.getresponse() as response:
            head = Head(response.status, {name.lower(): value for name, value in response.getheaders()})
            # The head waits for the first of the body: its reader would only pause again between the two.
            data = response.read1(_READ_BYTES)
            self._put(head)
            self._socket.settimeout(self._timeouts.silence_s + _MARGIN_S)
            while data and self._put(data):
                data = response.read1(_READ_BYTES)
            # For a body of a known length, http.client takes an early end for the end.
            if response.length:
                raise Cut(f"the body ended too early, by {response.length:,} bytes")
        return End()

    def _put(self, item: Head | bytes | End | Cut) -> bool:
        """Wait for room, and add `item`; False once the exchange is closed."""
        with self._changed:
            while self._num_bytes >= _BUFFER_BYTES and not self._is_closed:
                self._changed.wait()
            if self._is_closed:
                return False
            self._arrived.append(item)
            if isinstance(item, bytes):
                self._num_bytes += len(item)
            return True


def fetch(address: Address, request: Request, timeouts: Timeouts) -> tuple[int, bytes]:
    """Status and body of a small answer, as far as `MAX_TEXT_BYTES`; waits for it. Not for the device's thread.

    Raises Cut, NotThere; Cut too if it is not there after `connect_s` and twice `silence_s`, however it drips.
    """
    until = time.monotonic() + timeouts.connect_s + 2 * timeouts.silence_s
    exchange = Exchange(address, request, timeouts)
    status, body = 0, b""
    try:
        while not isinstance(item := exchange.poll(), End) and len(body) < MAX_TEXT_BYTES:
            if isinstance(item, Head):
                status = item.status
            elif isinstance(item, bytes):
                body += item
            elif time.monotonic() > until:
                raise Cut("nothing whole arrived in time")
            else:
                time.sleep(_POLL_S)
    finally:
        exchange.close()
    return status, body


def _described(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "nothing arrived in time"
    if isinstance(error, http.client.IncompleteRead):
        return "the body was cut short"
    return f"{type(error).__name__}: {error}"[:300]
