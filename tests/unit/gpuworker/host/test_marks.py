"""Marks on their way into a log and out of it: none lost, none doubled, no invalid one, no header too large."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import wire
from bus.errors import Malformed
from bus.jobs.entry import BLOCK, FRAME, KIND, MARKS, STARTED, Entry
from bus.subjects import Subjects
from bus.transport.direct import Stored
from bus.transport.parser import Message
from bus.wire import MAX_MARKS
from gateway.jobs.pcm_reader import PcmReader
from gpuworker import pipe, registry
from gpuworker.engine import Block, Engine, EngineJob, Mark
from gpuworker.host.group import Group, Member
from gpuworker.host.marks import cut_at_marks, valid_marks
from gpuworker.worker.entry_size import MAX_ENTRY_BYTES, EntrySize
from gpuworker.worker.stream import Audio, Stream

FRAMES = 1000
#: Frames of marks: single ones, and crowds on one frame or spread over many.
CROWDS = st.lists(
    st.integers(0, FRAMES - 1).map(lambda frame: [frame])
    | st.tuples(st.integers(0, FRAMES - 1), st.integers(1, 2 * MAX_MARKS)).map(lambda crowd: [crowd[0]] * crowd[1])
    | st.tuples(st.integers(0, 400), st.integers(50, 500)).map(lambda spread: list(range(spread[0], sum(spread)))),
    max_size=8,
).map(lambda groups: sorted(frame for group in groups for frame in group))


def words(frames: Sequence[int]) -> pipe.Marks:
    return tuple(wire.Mark(frame, "word", 3 * index, 2) for index, frame in enumerate(frames))


@given(CROWDS)
def test_marks_that_do_not_fit_one_entry_are_cut_into_several_and_only_a_crowd_on_one_frame_loses_any(
    frames: list[int],
) -> None:
    marks = words(frames)
    pieces = list(cut_at_marks(marks, 0, FRAMES))
    at = 0
    for first, count, within in pieces:
        assert first == at
        assert count >= 1
        assert len(within) <= MAX_MARKS
        assert all(first <= mark.frame < first + count for mark in within)
        at += count
    assert at == FRAMES
    kept = [mark for _, _, within in pieces for mark in within]
    assert kept == sorted(kept, key=lambda mark: (mark.frame, mark.start)), "in their order"
    crowded = {frame for frame in frames if frames.count(frame) > MAX_MARKS}
    assert [mark for mark in kept if mark.frame not in crowded] == [m for m in marks if m.frame not in crowded]
    assert all(sum(mark.frame == frame for mark in kept) == MAX_MARKS for frame in crowded)


def test_the_headers_of_an_entry_full_of_marks_stay_below_8_kib() -> None:
    longest = "x" * 64
    name = Subjects("x" * 32).job_key(longest, longest)
    marks = [wire.Mark(2**53, "sentence", 10_000_000, 10_000_000)] * MAX_MARKS
    started = wire.Started(
        media=wire.media_type(192_000, 2),
        worker=longest,
        attempt=99,
        model=longest,
        version=longest,
        seam_frame=2**53,
        exact=False,
    )
    headers = {
        KIND: "block",
        BLOCK: str(2**31),
        FRAME: str(2**53),
        MARKS: wire.encode(marks).decode(),
        STARTED: wire.encode(started).decode(),
        "Antiphon-Next": f"{2**31} {2**53} ffffffff {2**53}",
        "Nats-Expected-Last-Subject-Sequence": str(2**53),
        "Nats-Expected-Last-Subject-Sequence-Subject": name.lease,
        "Nats-Msg-Id": f"{longest}.{longest}.{2**53}.{2**31}",
    }
    assert sum(len(f"{header}: {value}\r\n") for header, value in headers.items()) < 8192


@pytest.mark.parametrize(
    ("mark", "is_valid"),
    [
        (Mark(10, "word", 0, 5), True),
        (Mark(19, "sentence", 0, 5), True),
        (Mark(20, "word", 0, 5), False),
        (Mark(10, "word", 1, 5), False),
        (Mark(10, "word", -1, 5), False),
        (Mark(10, "word", 0, 0), False),
    ],
)
def test_a_mark_outside_the_audio_or_the_input_is_left_out_and_counted(mark: Mark, is_valid: bool) -> None:
    valid, num_invalid = valid_marks([mark], 10, 10, input_chars=5)
    assert (len(valid), num_invalid) == ((1, 0) if is_valid else (0, 1))


def test_a_mark_before_the_frames_is_in_the_log_already_and_not_counted() -> None:
    assert valid_marks([Mark(9, "word", 0, 5)], 10, 10, input_chars=5) == ((), 0)


class Sent:
    """The worker's end of the pipe: decodes the messages that a group sends."""

    def __init__(self) -> None:
        self.audio: list[tuple[int, int, bytes, pipe.Marks]] = []
        self._reader = pipe.MessageReader({1: self}, lambda _message: None)

    def __call__(self, data: bytes, urgent: bool) -> None:
        self._reader.feed(data)

    def on_audio(self, first_frame: int, pcm: bytes, marks: pipe.Marks) -> None:
        self.audio.append((1, first_frame, pcm, marks))

    def on_control(self, message: pipe.ControlMessage) -> None:
        """Only audio is looked at."""


def sent_by_group(blocks: Sequence[Block], start_frame: int = 0) -> Sent:
    """The messages of a group whose engine makes these blocks."""

    class Scripted:
        def generate(self, jobs: Sequence[EngineJob]) -> Any:
            yield from ((0, block) for block in blocks)

        def capabilities(self) -> Any:
            return registry.make("tone").capabilities()

    sent = Sent()
    engine: Engine = Scripted()  # type: ignore[assignment]  # all that a group calls
    member = Member(1, EngineJob(id="j", input="x" * 10_000, start_frame=start_frame), 0.0)
    group = Group(engine, [member], sent)
    for _ in blocks:
        group.step(0.0)
    return sent


def block(first_frame: int, frames: int, *marks: Mark) -> Block:
    return Block(first_frame, np.zeros((frames, 1), np.float32), marks)


def test_a_replacement_sends_the_marks_from_its_first_frame_on_and_none_before() -> None:
    blocks = [
        block(0, 10, Mark(0, "sentence", 0, 9), Mark(0, "word", 0, 1), Mark(9, "word", 2, 1)),
        block(10, 10, Mark(10, "word", 4, 1), Mark(14, "word", 6, 1), Mark(15, "word", 8, 1)),
    ]
    whole = [mark.start for _, _, _, marks in sent_by_group(blocks).audio for mark in marks]
    assert whole == [0, 0, 2, 4, 6, 8]
    for frame in range(20):
        before = [mark.start for each in blocks for mark in each.marks if mark.frame < frame]
        after = [mark.start for _, _, _, marks in sent_by_group(blocks, frame).audio for mark in marks]
        assert before + after == whole, f"a seam at frame {frame}"


def test_a_block_with_too_many_marks_becomes_several_pieces_of_the_same_audio() -> None:
    marks = [Mark(index, "word", index, 1) for index in range(2 * MAX_MARKS + 1)]
    audio = sent_by_group([block(0, 1000, *marks)]).audio
    assert [(first, len(marks)) for _, first, _, marks in audio] == [
        (0, MAX_MARKS),
        (MAX_MARKS, MAX_MARKS),
        (2 * MAX_MARKS, 1),
    ]
    assert b"".join(pcm for _, _, pcm, _ in audio) == bytes(2000)


def test_an_invalid_mark_is_dropped_and_logged_and_the_audio_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    audio = sent_by_group([block(0, 10, Mark(3, "word", 9_999, 2), Mark(4, "word", 0, 1))]).audio
    assert [(len(pcm), [mark.start for mark in marks]) for _, _, pcm, marks in audio] == [(20, [0])]
    assert "marks.dropped" in "".join(capsys.readouterr())


async def soon(stream: Stream) -> object:
    async with asyncio.timeout(20):
        return await stream.next()


async def test_entries_that_merge_merge_their_marks_as_far_as_there_is_room() -> None:
    stream = Stream(1, EntrySize(24_000, 2), lambda handle, size: None)
    stream.on_audio(0, bytes(2), words([0]))
    first = await soon(stream)
    assert isinstance(first, Audio)
    assert first.marks == words([0])
    stream.appended(first)
    many = words(range(MAX_MARKS))
    stream.on_audio(1, bytes(2 * MAX_MARKS), many[:-1])
    stream.on_audio(1 + MAX_MARKS, bytes(2), many[-1:])
    stream.on_audio(2 + MAX_MARKS, bytes(2))
    stream.on_audio(3 + MAX_MARKS, bytes(MAX_ENTRY_BYTES // 2), words([0]))
    stream.on_control(pipe.Done({}))
    second, third = await soon(stream), await soon(stream)
    assert isinstance(second, Audio)
    assert isinstance(third, Audio)
    assert (second.first_frame, len(second.pcm), second.marks) == (1, 2 * MAX_MARKS + 4, many)
    assert (third.first_frame, third.marks) == (3 + MAX_MARKS, words([0]))


def entry(frame: int, pcm: bytes, *marks: wire.Mark, started: bool = False) -> Entry:
    headers = {KIND: "block", FRAME: str(frame)}
    if marks:
        headers[MARKS] = wire.encode(marks).decode()
    if started:
        headers[STARTED] = wire.encode(
            wire.Started(media=wire.media_type(24_000, 1), worker="w", attempt=1, model="m", version="v1")
        ).decode()
    head = "NATS/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
    return Entry.stored(Stored(Message("live", "", head.encode(), pcm), 1, ""))


def test_an_entry_has_its_marks_and_most_have_none() -> None:
    mark = wire.Mark(3, "word", 7, 2)
    assert entry(0, bytes(20), mark).marks == [mark]
    assert entry(0, bytes(20)).marks == []
    assert Entry.stored(Stored(Message("live", "", None, b""), 1, "")).marks == []


@pytest.mark.parametrize("text", ["", "{}", "[[1]]", '[[1,"shout",0,1]]', '[["1","word",0,1]]'])
def test_marks_that_cannot_be_decoded_are_malformed(text: str) -> None:
    head = f"NATS/1.0\r\n{MARKS}: {text}\r\n\r\n".encode()
    broken = Entry.stored(Stored(Message("live", "", head, b""), 1, ""))
    with pytest.raises(Malformed):
        assert broken.marks


def test_a_tape_gives_the_marks_of_the_sound_it_gives_and_of_no_other() -> None:
    early, late, next_one = (wire.Mark(frame, "word", frame, 1) for frame in (2, 6, 10))
    entries = [entry(0, bytes(20), early, late, started=True), entry(10, bytes(20), next_one)]
    whole = PcmReader()
    assert [(whole.feed([each]), whole.marks)[1] for each in entries] == [[early, late], [next_one]]
    whole.feed([])
    assert whole.marks == [], "those of the last piece only"
    middle = PcmReader(from_frame=5)
    middle.feed(entries)
    assert middle.marks == [late, next_one]
