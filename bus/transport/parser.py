"""The NATS client protocol, both ways, without a task or a regular expression per message.

nats-py's own parser takes most of a message's CPU time. Ours parses MSG and HMSG, calls the subscription's callback
synchronously, and leaves every other line (INFO, PING, PONG, -ERR, +OK) to nats-py. A test feeds both parsers the same
bytes, split anywhere, and compares the results. The other way, packets are encoded here and written in few pieces.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

import msgspec
from nats.errors import ProtocolError

from bus.telemetry.logging import logger

log = logger(__name__)

_CRLF: Final = b"\r\n"
_STATUS: Final = b"NATS/1.0 "
_M, _H = ord("M"), ord("H")
#: The server's own limit is 4 KiB; a line this long without an end is not NATS.
_MAX_LINE_BYTES: Final = 1 << 20


class ProtocolBroken(Exception):
    """Bytes that are not the NATS protocol. The connection must be closed and re-established."""


class Message(msgspec.Struct, eq=False):
    """One message as received."""

    subject: str
    #: Subject for the response; "" if the sender expects none.
    reply: str
    #: The raw header block or None: most readers need one header only.
    head: bytes | None
    data: bytes

    def header(self, name: str) -> str | None:
        """Return the value of the first header with exactly this name, or None."""
        if self.head is None:
            return None
        start = self.head.find(b"\r\n" + name.encode() + b":")
        return None if start < 0 else _line(self.head, start + len(name) + 3)

    def server_header(self, name: str) -> str | None:
        """Return the value of the last header with this name, or None: nats-server appends its own to a publisher's.

        A message that a tenant published may have any of them too, with a sequence or a subject of its choice.
        """
        if self.head is None:
            return None
        start = self.head.rfind(b"\r\n" + name.encode() + b":")
        return None if start < 0 else _line(self.head, start + len(name) + 3)

    @property
    def status(self) -> str | None:
        """The code of a status message (`404` in `NATS/1.0 404 No Messages`); None for any other message."""
        # The server removes the status of a message that a client published, if it is one: other bytes come through.
        if self.head is None or self.head[:9] != _STATUS:
            return None
        return _text(self.head[9:12])

    @property
    def status_text(self) -> str:
        """Code and text of a status message; "" for a message without headers."""
        return "" if self.head is None else _line(self.head, 9)


def _line(head: bytes, start: int) -> str:
    """The text from `start` to the end of its line, which a head of any bytes may lack."""
    end = head.find(_CRLF, start)
    return _text(head[start : end if end >= 0 else len(head)].strip())


def _text(raw: bytes) -> str:
    """Decode without ever raising: the server forwards any bytes, and a subject must not break our connection."""
    return raw.decode(errors="backslashreplace")


Callback = Callable[[Message], None]


class Parser:
    """Splits received bytes into messages and other lines."""

    def __init__(self, control: Callable[[bytes], None]) -> None:
        """`control` is called with every line that is not a message, without its CRLF."""
        #: By subscription id, spelt as on the wire. An exception of a callback is logged.
        self.callbacks: dict[bytes, Callback] = {}
        self._control = control
        self._rest = b""

    def reset(self) -> None:
        """Forget incomplete input, for a new connection."""
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Parse `data` and keep an incomplete rest for the next call. Raises ProtocolBroken."""
        if self._rest:
            data = self._rest + data
        pos, end = 0, len(data)
        while pos < end:
            eol = data.find(_CRLF, pos)
            if eol < 0:
                if end - pos > _MAX_LINE_BYTES:
                    raise ProtocolBroken(f"no line end in {end - pos} bytes")
                break
            first = data[pos]
            if first not in {_M, _H}:
                self._control(data[pos:eol])
                pos = eol + 2
                continue
            after = self._message(data, pos, eol, headers=first == _H)
            if after < 0:
                break
            pos = after
        self._rest = data[pos:] if pos else data

    def _message(self, data: bytes, pos: int, eol: int, *, headers: bool) -> int:
        """Deliver the message whose control line is data[pos:eol]; return where it ends, or -1 if it is incomplete."""
        parts = data[pos:eol].split()
        try:
            size = int(parts[-1])
            head_size = int(parts[-2]) if headers else 0
            sid = parts[2]
            has_reply = len(parts) == (6 if headers else 5)
        except (IndexError, ValueError) as error:
            raise ProtocolBroken(repr(data[pos:eol][:100])) from error
        if not 0 <= head_size <= size:
            raise ProtocolBroken(repr(data[pos:eol][:100]))
        body = eol + 2
        end = body + size
        if end + 2 > len(data):
            return -1
        callback = self.callbacks.get(sid)
        if callback is not None:
            head = data[body : body + head_size] if headers else None
            reply = _text(parts[3]) if has_reply else ""
            message = Message(_text(parts[1]), reply, head, data[body + head_size : end])
            try:
                callback(message)
            except Exception:
                log.exception("bus.callback_failed", subject=message.subject)
        return end + 2


class ParserAdapter:
    """Takes the place of nats-py's parser: ours reads messages, nats-py's gets every other line."""

    def __init__(self, theirs: Any) -> None:
        self._theirs = theirs
        self._lines: list[bytes] = []
        self.parser = Parser(self._lines.append)

    def reset(self) -> None:
        """Forget incomplete input; nats-py calls it before a reconnect."""
        self._lines.clear()
        self.parser.reset()
        self._theirs.reset()

    async def parse(self, data: bytes = b"") -> None:
        """Parse received bytes. Raises nats-py's ProtocolError, which makes it reconnect."""
        try:
            self.parser.feed(data)
        except ProtocolBroken as error:
            log.error("nats.error", error=str(error))
            raise ProtocolError from error
        while self._lines:
            await self._theirs.parse(self._lines.pop(0) + b"\r\n")


class PacketWriter:
    """Gathers the packets of one turn of the event loop and writes them to the server in one system call."""

    def __init__(self, client: Any, transport: Callable[[], Any]) -> None:
        """`client`: nats-py's. `transport()`: its transport, another one after some reconnects."""
        self._client = client
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._packets: list[bytes] = []

    def publish(self, subject: str, data: bytes, reply: str, headers: dict[str, str] | None) -> None:
        """Publish. Raises ValueError on a subject, header or size at which the server would close the connection."""
        self.send(encode(subject, data, reply, headers, self._client.max_payload))

    def send(self, packet: bytes) -> None:
        """Write a packet at the end of this turn."""
        if not self._packets:
            self._loop.call_soon(self.flush)
        self._packets.append(packet)

    def flush(self) -> None:
        """Write all packets now, or drop them while the connection is down."""
        if self._packets and self._client.is_connected:
            data = self._packets[0] if len(self._packets) == 1 else b"".join(self._packets)
            with contextlib.suppress(RuntimeError):  # uvloop: the socket has just died, which nats-py will notice
                self._transport().write(data)
        self._packets.clear()

    def clear(self) -> None:
        """Drop all packets."""
        self._packets.clear()


def encode(subject: str, data: bytes, reply: str, headers: dict[str, str] | None, max_bytes: int) -> bytes:
    """Return one PUB or HPUB, with at most `max_bytes` of headers and data together, as the server counts.

    Raises ValueError on a subject or header that would break the line, and on too many bytes: the server would close
    the connection for good.
    """
    if len(subject.split()) != 1 or len(reply.split()) > 1 or subject.strip() != subject or reply.strip() != reply:
        raise ValueError(f"not a subject: {subject!r:.200} (reply {reply!r:.200})")
    if headers is None:
        if len(data) > max_bytes:
            raise ValueError(f"{subject}: {len(data)} bytes, the limit of the server is {max_bytes}")
        return b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), reply.encode(), len(data), data)
    text = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if text.count("\n") != len(headers) or text.count("\r") != len(headers):
        raise ValueError(f"a header holds a line end: {headers!r:.200}")
    head = b"NATS/1.0\r\n" + text.encode() + _CRLF
    if len(head) + len(data) > max_bytes:
        raise ValueError(
            f"{subject}: {len(head) + len(data)} bytes with headers, the limit of the server is {max_bytes}"
        )
    return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (
        subject.encode(),
        reply.encode(),
        len(head),
        len(head) + len(data),
        head,
        data,
    )
