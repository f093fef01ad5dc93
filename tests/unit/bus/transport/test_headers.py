"""Headers of any bytes: reading them raises nothing, and those of the server stand behind a publisher's."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from bus.errors import Malformed
from bus.jobs.entry import BLOCK, FRAME, KIND, MARKS, NEXT, STARTED, Entry
from bus.transport.direct import Stored
from bus.transport.parser import Message

NAMES = (KIND, BLOCK, FRAME, NEXT, STARTED, MARKS, "Nats-Sequence", "Nats-Subject", "X")
_VALUES = (
    st.text(max_size=12)
    | st.integers().map(str)
    | st.sampled_from(("", "block", "done", "0 0 0 0", "[]", "1_0", "\u0664"))
)
_LINES = st.builds(lambda name, value: f"{name}: {value}\r\n".encode(), st.sampled_from(NAMES), _VALUES)
_STARTS = st.sampled_from((b"NATS/1.0\r\n", b"NATS/1.0 404 No\r\n", b"NATS/1.0", b"", b"garbage! 404 x\r\n", b"\r\n"))
HEADS = st.binary(max_size=60) | st.builds(
    lambda start, lines, end: start + b"".join(lines) + end,
    _STARTS,
    st.lists(_LINES, max_size=5),
    st.sampled_from((b"\r\n", b"")),
)


def received(head: bytes) -> Message:
    return Message("t.job", "", head, b"data")


@given(HEADS)
def test_no_head_makes_reading_raise(head: bytes) -> None:
    message = received(head)
    for name in NAMES:
        assert message.header(name) is None or isinstance(message.header(name), str)
        assert (message.server_header(name) is None) == (message.header(name) is None)
    assert message.status is None or head.startswith(b"NATS/1.0 ")
    assert isinstance(message.status_text, str)


@given(HEADS)
def test_an_entry_with_any_head_is_an_entry_or_malformed(head: bytes) -> None:
    entry = Entry.stored(Stored(received(head), 1, ""))
    for read in ("block", "frame", "position", "marks", "started"):
        with contextlib.suppress(Malformed):
            getattr(entry, read)


@given(HEADS.filter(lambda head: head.endswith(b"\r\n\r\n")), st.integers(1, 2**60))
def test_the_servers_own_header_is_the_one_that_counts(head: bytes, seq: int) -> None:
    message = received(head[:-2] + b"Nats-Subject: real\r\nNats-Sequence: %d\r\n\r\n" % seq)
    assert message.server_header("Nats-Sequence") == str(seq)
    assert message.server_header("Nats-Subject") == "real"


def test_bytes_that_only_look_like_a_status_are_none() -> None:
    assert received(b"garbage! 404 x\r\n\r\n").status is None
    assert received(b"NATS/1.0 404 No Messages\r\n\r\n").status == "404"
