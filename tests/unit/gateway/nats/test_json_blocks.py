"""Blocks as lines of JSON: whatever their sizes, one base64 text, whole frames, nothing lost or sent twice."""

import base64
import json
from typing import Any, cast

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bus import wire
from bus.errors import LogDamaged
from bus.jobs.entry import Entry, Position
from bus.transport.direct import Stored
from bus.transport.parser import Message, encode
from bus.transport.replies import CallerInboxes, is_outside_inbox
from gateway.nats.reply import JsonEntries, RawEntries, Reply


class Sent:
    """Stands for a reply: keeps the messages sent."""

    def __init__(self) -> None:
        self.messages: list[tuple[dict[str, str], bytes]] = []

    def send(self, headers: dict[str, str], body: bytes) -> None:
        assert body
        self.messages.append((headers, body))

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(body) for headers, body in self.messages if headers["Antiphon-Kind"] == "block"]


def entry(seq: int, kind: str, payload: bytes, **headers: str) -> Entry:
    lines = {"Antiphon-Kind": kind, **{f"Antiphon-{name.title()}": value for name, value in headers.items()}}
    head = "NATS/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "Nats-Msg-Id: x\r\n\r\n"
    return Entry.stored(Stored(Message("live", "", head.encode(), payload), seq, ""))


def log(sizes: list[int], channels: int, lost: int = 0) -> tuple[list[Entry], bytes]:
    """A log with blocks of so many frames, and its PCM; `lost` frames that `done` counts were never there."""
    media = msgspec.json.encode(
        wire.Started(media=wire.media_type(22_050, channels), worker="w", attempt=1, model="m", version="v1")
    ).decode()
    entries, pcm, position = [], b"", Position()
    for number, frames in enumerate(sizes):
        block = bytes((len(pcm) + k) % 251 for k in range(frames * channels * 2))
        started = {"started": media} if number == 0 else {}
        first = position.frame
        position = position.after_block(block, frames)
        headers = {"block": str(number), "frame": str(first), "next": position.header()}
        entries.append(entry(number + 1, "block", block, **headers, **started))
        pcm += block
    end = msgspec.structs.replace(position, frame=position.frame + lost)
    return [*entries, entry(len(entries) + 1, "done", b"{}", next=end.header())], pcm


@given(st.lists(st.integers(1, 300), min_size=1, max_size=20), st.integers(1, 3))
@example([1, 1, 1, 1], 1)
@example([2, 2, 2], 2)
@example([40_000, 1, 40_001], 1)
@example([5461 * 3 + 1], 1)
def test_lines_of_json_are_one_base64_text_of_whole_frames(sizes: list[int], channels: int) -> None:
    sent = Sent()
    writer = JsonEntries(cast("Reply", sent))
    entries, pcm = log(sizes, channels)
    for each in entries:
        writer.send([each])
    assert base64.b64decode("".join(line["audio"] for line in sent.lines), validate=True) == pcm
    assert all("=" not in line["audio"] for line in sent.lines[:-1])
    frame = 0
    for number, line in enumerate(sent.lines):
        size = len(base64.b64decode(line["audio"]))
        assert (line["seq"], line["frame"], size % (2 * channels)) == (number, frame, 0)
        assert size <= 32_766
        frame += size // (2 * channels)
    assert sent.messages[-1][0]["Antiphon-Kind"] == "done"


@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=5), st.integers(1, 2))
def test_a_line_has_the_marks_of_its_frames_and_every_mark_is_sent_once(sizes: list[int], channels: int) -> None:
    entries, _ = log(sizes, channels)
    first, marks = 0, []
    for each, frames in zip(entries, sizes, strict=False):
        here = [
            wire.Mark(frame, "word", frame, 1) for frame in sorted({first, first + frames // 2, first + frames - 1})
        ]
        each.message.head = (each.message.head or b"")[:-2] + b"Antiphon-Marks: " + wire.encode(here) + b"\r\n\r\n"
        marks += here
        first += frames
    sent = Sent()
    JsonEntries(cast("Reply", sent)).send(entries)
    found = []
    for line in sent.lines:
        end = line["frame"] + len(base64.b64decode(line["audio"])) // (2 * channels)
        assert all(line["frame"] <= mark[0] < end for mark in line.get("marks", []))
        assert line.get("marks") != [], "a line without marks has no such field"
        found += line.get("marks", [])
    assert found == [[mark.frame, "word", mark.start, 1] for mark in marks]
    assert not any("Antiphon-Marks" in headers for headers, _ in sent.messages)


def test_a_log_that_lacks_frames_is_never_sent_as_done() -> None:
    sent = Sent()
    writer = JsonEntries(cast("Reply", sent))
    with pytest.raises(LogDamaged, match="frames 10 to 12 "):
        writer.send(log([10], 1, lost=3)[0])
    assert [headers["Antiphon-Kind"] for headers, _ in sent.messages] == ["block", "block"]


def test_raw_entries_keep_their_bytes_and_our_headers_alone() -> None:
    sent = Sent()
    entries, pcm = log([7, 5], 1)
    RawEntries(cast("Reply", sent)).send(entries)
    assert b"".join(body for headers, body in sent.messages if headers["Antiphon-Kind"] == "block") == pcm
    assert {name for headers, _ in sent.messages for name in headers} == {
        "Antiphon-Block",
        "Antiphon-Frame",
        "Antiphon-Kind",
        "Antiphon-Next",
        "Antiphon-Started",
        "Nats-Sequence",
    }


@pytest.mark.parametrize("inbox", ["_INBOX.a.b", "_INBOX_me.a", "_INBOX.acme.x", "_R_.abc.def"])
def test_an_inbox_may_be_answered(inbox: str) -> None:
    assert is_outside_inbox(inbox)


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "a",
        "antiphon.reply.public.j.c",
        "$JS.API.STREAM.PURGE.ANTIPHON_REPLIES",
        "$JS.ACK.ANTIPHON_JOBS.c.1.1.1.1.0",
        "_INBOX_gateway.x.1",
        "_INBOX_worker.x.1",
        "_INBOX_operator.x.1",
        "_INBOX",
        "_INBOX.",
        "_INBOX..a",
        "_INBOX.a.",
        "_INBOX.*",
        "_INBOX.>",
        "_INBOX.acme.*.1",
        "_INBOX.acme.>",
        "_R_.*",
        "_R_.a.>",
        "_INBOX.a b",
        "_INBOX.a\u00a0b",
        "_INBOX.a\tb",
        "_R_",
        "_GR_.x",
    ],
)
def test_a_subject_that_is_no_inbox_of_a_client_is_not_answered(subject: str) -> None:
    assert not is_outside_inbox(subject)


@pytest.mark.parametrize(
    ("inbox", "is_allowed"),
    [
        ("_INBOX.acme.x", True),
        ("_INBOX.acme.x.1", True),
        ("_R_.abc.def", True),
        ("_INBOX.acme", False),
        ("_INBOX.acme.*", False),
        ("_INBOX.acme2.x", False),
        ("_INBOX.victim.x", False),
        ("_INBOX.random.1", False),
        ("_INBOX_acme.x", False),
        ("_INBOX_gateway.acme.x", False),
    ],
)
def test_with_users_a_tenant_is_answered_in_its_own_inboxes_only(inbox: str, is_allowed: bool) -> None:
    inboxes = CallerInboxes("nats://gateway:secret@bus:4222")
    assert inboxes.allow(inbox, "acme") == is_allowed
    assert inboxes.allow(inbox, None) == is_outside_inbox(inbox)
    assert CallerInboxes("nats://bus:4222").allow(inbox, "acme") == is_outside_inbox(inbox)


@given(st.text(max_size=30))
@example("_INBOX.\r\nPUB x 0")
@example("_INBOX.\u2028x")
def test_an_inbox_that_may_be_answered_is_a_valid_subject(rest: str) -> None:
    for subject in (rest, f"_INBOX.{rest}", f"_R_.{rest}"):
        if is_outside_inbox(subject):
            assert encode(subject, b"", "", None, 100).count(b"\r\n") == 2
