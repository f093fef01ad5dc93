"""Our parser yields the same messages as nats-py's, for any stream split anywhere."""

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nats.protocol.parser import Parser as TheirParser

from bus.transport.parser import Message, Parser, ParserAdapter, ProtocolBroken, encode

SIDS = (b"1", b"2", b"77")
SUBJECTS = st.sampled_from([b"a", b"a.b.c", b"_INBOX.x.1", b"$JS.ACK.S.c.1.2.3.4.0", "caf\u00e9".encode()])
PAYLOADS = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [b"", b"\r\n", b"MSG a 1 3\r\n", b"PING\r\n", b"\r", b"\n\r\n\r", b"HMSG a 1 2 3\r\n", b"\xff\x00"]
    ),
)
HEADS = st.sampled_from(
    [
        b"NATS/1.0\r\n\r\n",
        b"NATS/1.0 404 No Messages\r\n\r\n",
        b"NATS/1.0\r\nA: b\r\nNats-Sequence: 12\r\n\r\n",
        b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\n\r\n",
    ]
)
CONTROL = st.sampled_from(
    [
        b"PING\r\n",
        b"PONG\r\n",
        b"+OK\r\n",
        b'INFO {"server_id":"x","headers":true}\r\n',
        b"-ERR 'Permissions Violation'\r\n",
    ]
)


@st.composite
def plain(draw: st.DrawFn) -> bytes:
    payload, reply = draw(PAYLOADS), draw(st.sampled_from([b"", b"_INBOX.r "]))
    return b"MSG %b %b %b%d\r\n%b\r\n" % (draw(SUBJECTS), draw(st.sampled_from(SIDS)), reply, len(payload), payload)


@st.composite
def headed(draw: st.DrawFn) -> bytes:
    head, payload, reply = draw(HEADS), draw(PAYLOADS), draw(st.sampled_from([b"", b"_INBOX.r "]))
    line = b"HMSG %b %b %b%d %d\r\n" % (
        draw(SUBJECTS), draw(st.sampled_from(SIDS)), reply, len(head), len(head) + len(payload),
    )  # fmt: skip
    return line + head + payload + b"\r\n"


STREAMS = st.lists(plain() | headed() | CONTROL, max_size=12).map(b"".join)


class Recorder:
    """Takes the place of nats-py's client."""

    def __init__(self) -> None:
        self.messages: list[tuple[Any, ...]] = []
        self.control: list[Any] = []

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, head: bytes | None) -> None:
        self.messages.append((sid, subject.decode(), reply.decode(), head, data))

    async def _process_ping(self) -> None:
        self.control.append("ping")

    async def _process_pong(self) -> None:
        self.control.append("pong")

    async def _process_info(self, info: Any) -> None:
        self.control.append(info)

    async def _process_err(self, error: str) -> None:
        self.control.append(error)


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[start:end] for start, end in itertools.pairwise(at)]


async def theirs(parts: list[bytes]) -> Recorder:
    recorder = Recorder()
    parser = TheirParser(recorder)
    for part in parts:
        await parser.parse(part)
    return recorder


async def ours(parts: list[bytes]) -> Recorder:
    recorder = Recorder()
    adapter = ParserAdapter(TheirParser(recorder))
    for sid in SIDS:

        def record(message: Message, sid: bytes = sid) -> None:
            recorder.messages.append((int(sid), message.subject, message.reply, message.head, message.data))

        adapter.parser.callbacks[sid] = record
    for part in parts:
        await adapter.parse(part)
    return recorder


@settings(max_examples=400, deadline=None)
@given(STREAMS, st.lists(st.integers(0, 2**16), max_size=20))
@example(b"MSG a 1 2\r\nhi\r\n", list(range(16)))
@example(b"PING\r\nHMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\nPONG\r\n", list(range(60)))
def test_the_same_messages_and_control_lines_come_out_however_the_stream_is_split(
    stream: bytes, cuts: list[int]
) -> None:
    mine, their = asyncio.run(ours(pieces(stream, cuts))), asyncio.run(theirs([stream]))
    assert mine.messages == their.messages
    assert mine.control == their.control


@pytest.mark.parametrize(
    "line", [b"MSG a 1 x", b"MSG a", b"HMSG a 1 x 5", b"MSG a 1 -5", b"HMSG a 1 9 5", b"HMSG a 1 -1 5", b"M", b"H"]
)
def test_a_malformed_message_line_breaks_the_connection(line: bytes) -> None:
    with pytest.raises(ProtocolBroken):
        Parser(lambda _: None).feed(line + b"\r\n12345\r\n12345\r\n")


def test_an_endless_line_breaks_the_connection_instead_of_filling_memory() -> None:
    parser = Parser(lambda _: None)
    parser.feed(b"x" * (1 << 20))
    with pytest.raises(ProtocolBroken, match="no line end"):
        parser.feed(b"x")


def test_a_message_without_a_subscription_is_skipped() -> None:
    lines: list[bytes] = []
    Parser(lines.append).feed(b"MSG a 9 4\r\nPING\r\nPONG\r\n")
    assert lines == [b"PONG"]


def test_bytes_that_are_not_utf_8_are_delivered() -> None:
    received: list[Message] = []
    parser = Parser(lambda _: None)
    parser.callbacks[b"1"] = received.append
    parser.feed(
        b"HMSG a.\xff 1 r.\xfe 20 21\r\nNATS/1.0\r\nA: \xff\xfe\r\n\r\n \r\nMSG b 1 0\r\n\r\n".replace(
            b"20 21", b"19 20"
        )
    )
    assert [message.subject for message in received] == ["a.\\xff", "b"]
    assert received[0].header("A") == "\\xff\\xfe"


HEAD = b"NATS/1.0\r\nA: first\r\nA: second\r\nBlank:\r\nLong-A: x\r\n\r\n"


@pytest.mark.parametrize(
    ("name", "value"), [("A", "first"), ("a", None), ("Blank", ""), ("Long-A", "x"), ("Long", None), ("NATS/1.0", None)]
)
def test_a_header_is_found_by_its_exact_name(name: str, value: str | None) -> None:
    assert Message("s", "", HEAD, b"").header(name) == value
    assert Message("s", "", None, b"").header(name) is None


def test_a_status_differs_from_a_message() -> None:
    assert Message("s", "", b"NATS/1.0 404 No Messages\r\n\r\n", b"").status == "404"
    assert Message("s", "", b"NATS/1.0 404 No Messages\r\n\r\n", b"").status_text == "404 No Messages"
    assert Message("s", "", HEAD, b"").status is None
    assert Message("s", "", None, b"").status is None


@given(st.text(), st.text())
@example("A", "b\r\nEvil: 1")
@example("A", "b\nEvil: 1")
@example("A\r\nEvil", "b")
@example("A", "\r")
def test_no_header_breaks_out_of_its_line(name: str, value: str) -> None:
    try:
        packet = encode("s", b"body", "", {name: value, "Last": "1"}, 1 << 20)
    except ValueError:
        return
    assert packet.count(b"\r\n") == 6  # control line, version, two headers, blank, body


@pytest.mark.parametrize("subject", ["", " ", "a b", "a\r\nPUB x 0", "a\t", " a", "a\u00a0b"])
def test_an_invalid_subject_is_not_sent(subject: str) -> None:
    with pytest.raises(ValueError, match="not a subject"):
        encode(subject, b"", "", None, 1 << 20)
    if subject:
        with pytest.raises(ValueError, match="not a subject"):
            encode("s", b"", subject, None, 1 << 20)


@pytest.mark.parametrize("headers", [None, {"A": "b"}])
def test_headers_count_towards_the_largest_payload_as_the_server_counts(headers: dict[str, str] | None) -> None:
    overhead = len(b"NATS/1.0\r\nA: b\r\n\r\n") if headers else 0
    assert encode("s", b"x" * (100 - overhead), "", headers, 100)
    with pytest.raises(ValueError, match="100"):
        encode("s", b"x" * (101 - overhead), "", headers, 100)
