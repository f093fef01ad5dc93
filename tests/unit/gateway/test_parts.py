"""The gateway's parts that need no bus: ranges, heads, tapes, queue rates, problems, dialects."""

import io
import wave
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from bus import errors, wire
from bus.errors import EngineFailed, Invalid, JobError
from bus.jobs.entry import BLOCK, FRAME, KIND, NEXT, STARTED, Entry, Position
from bus.transport.parser import Message
from gateway.codecs import format_named
from gateway.codecs.wave import wav_head
from gateway.dialects.registry import dialects
from gateway.http.dialect import Envelopes
from gateway.http.problems import STATUS, GatewayError, Problem, RangeRefused, describe
from gateway.http.ranges import is_unchanged, part
from gateway.jobs.pcm_reader import PcmReader, failure
from gateway.jobs.queue_position import StartRates

MEDIA = wire.media_type(24_000, 2)


def entry(kind: str, payload: bytes, **headers: str) -> Entry:
    """One entry of a log. Header names as keywords are ours."""
    lines = {KIND: kind, **headers}
    head = "NATS/1.0" + "".join(f"\r\n{name}: {value}" for name, value in lines.items()) + "\r\n\r\n"
    return Entry(Message("s", "", head.encode(), payload), 1)


def block(frame: int, pcm: bytes, *, media: str | None = None) -> Entry:
    started = wire.Started(media=media or MEDIA, worker="w", attempt=1, model="m", version="v1")
    told = {STARTED: wire.encode(started).decode()} if media else {}
    return entry("block", pcm, **{BLOCK: "0", FRAME: str(frame), **told})


def done(frames: int) -> Entry:
    return entry("done", b"{}", **{NEXT: Position(1, frames).header()})


@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=20),
    from_frame=st.integers(0, 300),
    cuts=st.lists(st.integers(1, 5), max_size=20),
)
def test_a_tape_gives_every_frame_from_the_one_asked_for_whatever_the_blocks(
    sizes: list[int], from_frame: int, cuts: list[int]
) -> None:
    frames = sum(sizes)
    pcm = b"".join(index.to_bytes(4, "little") for index in range(frames))
    entries, at = [], 0
    for size in sizes:
        entries.append(block(at, pcm[4 * at : 4 * (at + size)], media=MEDIA if at == 0 else None))
        at += size
    entries.append(done(frames))
    tape, heard = PcmReader(from_frame), b""
    for cut in [*cuts, len(entries)]:
        heard += tape.feed(entries[:cut])
        entries = entries[cut:]
    tape.check_complete()
    assert heard == pcm[4 * from_frame :]


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([block(0, bytes(40))], "before its media"),
        ([block(0, bytes(40), media=MEDIA), block(11, bytes(4))], "frame 11 came where 10 was due"),
        ([block(0, bytes(40), media=MEDIA), block(10, bytes(4), media=wire.media_type(48_000, 2))], "changes to"),
        ([block(0, bytes(40), media="audio/ogg")], "not PCM"),
    ],
)
def test_a_tape_refuses_what_is_not_one_sound(entries: list[Entry], says: str) -> None:
    with pytest.raises(EngineFailed, match=says):
        PcmReader().feed(entries)


def test_a_tape_that_misses_frames_is_not_complete() -> None:
    tape = PcmReader()
    tape.feed([block(0, bytes(40), media=MEDIA), done(11)])
    with pytest.raises(EngineFailed, match="11 frames, 10"):
        tape.check_complete()


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


@pytest.mark.parametrize("frames", [0, 1, 4800])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_with_a_head_of_ours_is_what_others_read(frames: int, channels: int) -> None:
    body = wav_head(44_100, channels, frames) + bytes(frames * channels * 2)
    with wave.open(io.BytesIO(body)) as read:
        assert (read.getframerate(), read.getnchannels(), read.getsampwidth()) == (44_100, channels, 2)
        assert read.getnframes() == frames


def test_a_size_that_32_bits_cannot_hold_is_told_as_unknown() -> None:
    assert wav_head(24_000, 1, 1 << 33)[40:] == wav_head(24_000, 1, None)[40:] == b"\xff\xff\xff\xff"


def test_a_format_that_nobody_makes_is_refused_with_those_there_are() -> None:
    with pytest.raises(Invalid, match="'midi' is not one of wav, pcm") as refused:
        format_named("midi", "format")
    assert refused.value.path == "format"


@given(size=st.integers(1, 500), first=st.integers(0, 600), last=st.integers(0, 600))
def test_a_range_is_what_the_rfc_says(size: int, first: int, last: int) -> None:
    body = bytes(index % 251 for index in range(size))
    headers = {"Range": f"bytes={first}-{last}"}
    if last < first:
        assert part(headers, size, "e") == (part({}, size, "e")[0], False)
    elif first >= size:
        with pytest.raises(RangeRefused):
            part(headers, size, "e")
    else:
        wanted, is_part = part(headers, size, "e")
        assert is_part
        assert body[wanted.start : wanted.stop] == body[first : last + 1]


@pytest.mark.parametrize("text", ["bytes=", "bytes=-", "bytes=1-2,4-5", "items=0-1", "bytes=a-b", "bytes=5-1"])
def test_a_range_that_is_not_understood_is_ignored(text: str) -> None:
    assert part({"Range": text}, 10, "e")[0].is_whole


def test_a_suffix_of_nothing_cannot_be_satisfied() -> None:
    with pytest.raises(RangeRefused):
        part({"Range": "bytes=-0"}, 10, "e")


@pytest.mark.parametrize(
    ("text", "same"), [('"a"', True), ('W/"a", "b"', True), ("*", True), ('"b"', False), ("a", False)]
)
def test_what_a_client_has_is_compared_by_its_tag(text: str, same: bool) -> None:
    assert is_unchanged({"If-None-Match": text}, '"a"') is same


class Workers:
    """A fleet that only has heartbeats."""

    def __init__(self) -> None:
        self.workers: dict[str, Any] = {}

    def beat(self, worker: str, boot: str, **started: int) -> None:
        self.workers[worker] = SimpleNamespace(beat=SimpleNamespace(id=worker, boot=boot, started=started))


def test_starts_are_counted_per_queue_over_a_minute_and_restarts_count_from_zero() -> None:
    fleet = Workers()
    starts = StartRates(fleet)  # type: ignore[arg-type]
    fleet.beat("w1", "a", q=100)
    starts.look(0.0)
    assert starts.per_second("q", 0.0) is None  # what was before is not of this minute
    fleet.beat("w1", "a", q=104)
    starts.look(1.0)
    assert starts.per_second("q", 1.0) is None  # four tell nothing
    fleet.beat("w2", "x", q=0, r=0)
    starts.look(2.0)
    fleet.beat("w2", "x", q=8, r=1)
    starts.look(3.0)
    assert starts.per_second("q", 3.0) == 12 / 60
    assert starts.per_second("r", 3.0) is None
    fleet.beat("w1", "b", q=0)
    starts.look(4.0)
    fleet.beat("w1", "b", q=6)
    starts.look(5.0)
    assert starts.per_second("q", 5.0) == 18 / 60
    assert starts.per_second("q", 62.0) == 14 / 60
    assert starts.per_second("q", 90.0) is None


def test_every_error_that_a_job_can_have_has_a_status() -> None:
    known = {*JobError.by_code.values(), errors.Unreachable, errors.Malformed}
    assert known - STATUS.keys() == set()
    assert all(error.status >= 400 and error.code for error in GatewayError.__subclasses__())


def test_an_error_nobody_foresaw_tells_a_client_nothing() -> None:
    problem = describe(RuntimeError("password"), make_mocked_request("GET", "/"))
    assert (problem.status, problem.code) == (500, "internal")
    assert "password" not in problem.detail


def test_what_may_be_tried_again_says_when() -> None:
    request = make_mocked_request("GET", "/")
    for error in (
        errors.NoWorker("x"),
        errors.StorageFull("x"),
        errors.Unreachable("x"),
        errors.OutOfDeviceMemory("x"),
    ):
        problem = describe(error, request)
        assert problem.retryable
        assert int(problem.headers["Retry-After"]) > 0


def test_a_dialect_is_one_file_and_answers_below_its_paths_in_its_own_envelope() -> None:
    known = dialects()
    assert any("/v1/audio/" in dialect.prefixes for dialect in known)
    envelopes = Envelopes(known)
    problem = Problem(status=422, code="invalid", detail="d", path="input")
    foreign, ours = envelopes.refuse("/v1/audio/speech", problem), envelopes.refuse("/v1/jobs", problem)
    assert isinstance(foreign.body, bytes)
    assert isinstance(ours.body, bytes)
    assert msgspec.json.decode(foreign.body) == {
        "error": {"message": "d", "type": "invalid_request_error", "param": "input", "code": "invalid"}
    }
    assert (foreign.status, ours.status, ours.content_type) == (400, 422, "application/problem+json")
    assert isinstance(ours, web.Response)
