"""The reader of a log's PCM, and the errors of jobs that did not end as done."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import errors, wire
from bus.errors import EngineFailed, JobError, LogDamaged
from bus.jobs.entry import BLOCK, FRAME, KIND, NEXT, STARTED, Entry, Position
from bus.transport.direct import Stored
from bus.transport.parser import Message
from gateway.jobs.pcm_reader import PcmReader, failure

MEDIA = wire.media_type(24_000, 2)


def entry(kind: str, payload: bytes, **headers: str) -> Entry:
    """One entry of a log. Header names as keywords are ours."""
    lines = {KIND: kind, **headers}
    head = "NATS/1.0" + "".join(f"\r\n{name}: {value}" for name, value in lines.items()) + "\r\n\r\n"
    return Entry.stored(Stored(Message("s", "", head.encode(), payload), 1, ""))


def block(frame: int, pcm: bytes, *, media: str | None = None, after: Position | None = None) -> Entry:
    started = wire.Started(media=media or MEDIA, worker="w", attempt=1, model="m", version="v1")
    headers = {STARTED: wire.encode(started).decode()} if media else {}
    headers |= {NEXT: after.header()} if after else {}
    return entry("block", pcm, **{BLOCK: "0", FRAME: str(frame), **headers})


def done(frames: int) -> Entry:
    return entry("done", b"{}", **{NEXT: Position(1, frames).header()})


@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=20),
    from_frame=st.integers(0, 300),
    cuts=st.lists(st.integers(1, 5), max_size=20),
)
def test_a_reader_returns_every_frame_from_the_first_one_wanted_whatever_the_blocks(
    sizes: list[int], from_frame: int, cuts: list[int]
) -> None:
    frames = sum(sizes)
    pcm = b"".join(index.to_bytes(4, "little") for index in range(frames))
    entries, at = [], 0
    for size in sizes:
        entries.append(block(at, pcm[4 * at : 4 * (at + size)], media=MEDIA if at == 0 else None))
        at += size
    entries.append(done(frames))
    reader, read = PcmReader(from_frame), b""
    for cut in [*cuts, len(entries)]:
        read += reader.feed(entries[:cut])
        entries = entries[cut:]
    reader.check_complete()
    assert read == pcm[4 * from_frame :]


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([block(0, bytes(40), media=MEDIA), block(10, bytes(4), media=wire.media_type(48_000, 2))], "changes to"),
        ([block(0, bytes(40), media="audio/ogg")], "not PCM"),
    ],
)
def test_a_reader_refuses_blocks_that_are_not_one_audio(entries: list[Entry], says: str) -> None:
    with pytest.raises(EngineFailed, match=says):
        PcmReader().feed(entries)


def test_a_reader_that_misses_frames_is_not_complete() -> None:
    reader = PcmReader()
    reader.feed([block(0, bytes(40), media=MEDIA), done(11)])
    with pytest.raises(LogDamaged, match="frames 10 to 10 ") as caught:
        reader.check_complete()
    assert (caught.value.first, caught.value.stop) == (10, 11)


@pytest.mark.parametrize(
    ("entries", "first", "stop"),
    [
        ([block(0, bytes(40), media=MEDIA), block(13, bytes(4))], 10, 13),
        ([block(0, bytes(40), after=Position(1, 10))], 0, 10),
    ],
)
def test_a_reader_names_the_frames_that_are_lost(entries: list[Entry], first: int, stop: int) -> None:
    reader = PcmReader()
    with pytest.raises(LogDamaged, match=f"frames {first} to {stop - 1} ") as caught:
        # The PCM before the damage is not lost with it.
        assert reader.feed(entries) == entries[0].payload
        reader.check_complete()
    assert (caught.value.first, caught.value.stop) == (first, stop)


@pytest.mark.parametrize("from_frame", [0, 5, 10, 15])
def test_a_reader_that_verifies_finds_a_block_that_is_not_what_was_written(from_frame: int) -> None:
    whole, at = [], Position()
    for text in b"abc":
        pcm, before = bytes([text]) * 40, at
        at = at.after_block(pcm, 10)
        whole.append(block(before.frame, pcm, media=MEDIA if not before.frame else None, after=at))
    damaged = [whole[0], msgspec.structs.replace(whole[1], payload=b"b" * 39 + b"x"), whole[2]]
    for entries in (whole, damaged):
        PcmReader(from_frame, (24_000, 2)).feed(entries)  # a listener of a running job
    PcmReader(from_frame, (24_000, 2), verify=True).feed(whole)
    reader = PcmReader(from_frame, (24_000, 2), verify=True)
    with pytest.raises(LogDamaged) as caught:
        assert reader.feed(damaged) == whole[0].payload[4 * from_frame :]
        reader.feed([])
    assert (caught.value.first, caught.value.stop) == (10, 20)


@pytest.mark.parametrize(
    ("kind", "payload", "error"),
    [
        ("failed", wire.encode(wire.Failed(code="out_of_memory", message="m")), errors.OutOfDeviceMemory),
        ("failed", wire.encode(wire.Failed(code="invalid", message="m", path="params.x")), errors.Invalid),
        ("failed", wire.encode(wire.Failed(code="of a newer version", message="m")), errors.EngineFailed),
        ("failed", b"garbage", errors.EngineFailed),
        ("cancelled", wire.encode(wire.Ended(why="left")), errors.Cancelled),
        ("expired", wire.encode(wire.Ended(why="late")), errors.Expired),
    ],
)
def test_how_a_job_ended_is_an_error_of_its_kind(kind: str, payload: bytes, error: type[JobError]) -> None:
    assert type(failure(entry(kind, payload))) is error
