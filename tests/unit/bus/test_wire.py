"""Messages of the bus: decoding refuses with Malformed and nothing else; equal jobs have equal digests."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bus import wire
from bus.errors import EngineFailed, JobError, Malformed, from_code
from bus.fleet.messages import Heartbeat, Pong
from bus.jobs.birth import digest

PARAMS = st.dictionaries(st.text(), st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(), max_size=5)
JOBS = st.builds(
    wire.Job,
    input=st.text(),
    id=st.text(max_size=5),
    voice=st.text(max_size=5),
    params=PARAMS,
    seed=st.integers(-(2**53), 2**53),
    run_on=st.none() | st.booleans(),
    linger_s=st.floats(0, 1e6),
    expires_at=st.none() | st.datetimes(timezones=st.just(UTC)),
)
KINDS = [wire.Job, wire.Birth, wire.Lease, wire.Started, wire.Done, wire.Failed, Heartbeat, Pong, wire.Stop]


@given(st.binary(), st.sampled_from(KINDS))
@example(b"", wire.Job)
@example(b"null", wire.Lease)
@example(b'{"input":"\\ud800"}', wire.Job)
@example(b'{"input":"\xff"}', wire.Job)
@example(b'{"input":1e999}', wire.Job)
@example(b'{"input":"x","params":{"a":' + b"[" * 100_000, wire.Job)
@example(b'{"input":"x","linger_s":NaN}', wire.Job)
@example(b'{"input":"x","expires_at":"2030-01-01T00:00:00"}', wire.Job)
def test_bytes_that_are_no_message_are_malformed_and_nothing_worse(data: bytes, kind: type) -> None:
    try:
        decoded = wire.decode(kind, data)
    except Malformed as error:
        assert kind.__name__ in str(error)  # noqa: PT017
    else:
        assert wire.decode(kind, wire.encode(decoded)) == decoded


def test_a_deadline_without_an_offset_is_refused_where_it_stands() -> None:
    with pytest.raises(Malformed, match="expires_at"):
        wire.decode(wire.Job, b'{"input":"x","expires_at":"2030-01-01T00:00:00"}')


@given(JOBS)
def test_a_job_survives_the_bus(job: wire.Job) -> None:
    assert wire.decode(wire.Job, wire.encode(job)) == job


def test_fields_of_a_newer_peer_are_ignored() -> None:
    assert wire.decode(wire.Job, b'{"input":"x","colour":"blue"}') == wire.Job(input="x")


@given(JOBS)
def test_rule_04_the_digest_leaves_out_where_a_job_came_from_and_when_it_expires(job: wire.Job) -> None:
    later = datetime(2031, 1, 1, tzinfo=UTC) + timedelta(hours=1)
    client = wire.Client(api="http", traceparent="00-1")
    assert digest(msgspec.structs.replace(job, client=client, expires_at=later)) == digest(job)


CHANGES: list[dict[str, Any]] = [
    {"input": "other"},
    {"voice": "other"},
    {"params": {"a": 2, "b": 1}},
    {"seed": 8},
    {"model": "m2"},
    {"version": "v2"},
    {"lane": "batch"},
    {"tenant": "t2"},
    {"run_on": True},
    {"linger_s": 1.0},
    {"retry_of": "j0"},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_rule_04_the_digest_covers_everything_that_makes_another_job(change: dict[str, Any]) -> None:
    job = wire.Job(input="x", params={"a": 1, "b": 2})
    assert digest(msgspec.structs.replace(job, **change)) != digest(job)


def test_the_digest_does_not_depend_on_the_order_in_which_params_were_written() -> None:
    one, other = (
        b'{"input":"x","params":{"a":1,"b":{"c":1,"d":2}}}',
        b'{"params":{"b":{"d":2,"c":1},"a":1},"input":"x"}',
    )
    assert digest(wire.decode(wire.Job, one)) == digest(wire.decode(wire.Job, other))


@given(JOBS)
def test_an_engine_request_is_the_jobs_own_fields(job: wire.Job) -> None:
    request = wire.engine_request(job)
    fields = msgspec.structs.asdict(request)
    assert fields.pop("voice_files") == {}
    assert fields == {name: getattr(job, name) for name in fields}
    assert fields.items() <= msgspec.structs.asdict(job).items()


def test_an_engine_request_has_the_paths_of_files_in_place_of_their_digests() -> None:
    job = wire.Job(input="x", inputs={"take": "0" * 64})
    files = wire.Files({"take": "/held/take"}, {"joe": {"joe.onnx": "/held/joe.onnx"}})
    request = wire.engine_request(job, files)
    assert (request.inputs, request.voice_files) == files


def test_media_other_than_pcm_is_the_engines_failure() -> None:
    started = wire.Started(media="audio/ogg", worker="w", attempt=1, model="m", version="v1")
    with pytest.raises(EngineFailed, match=r"not PCM.*audio/ogg"):
        _ = started.pcm_media
    assert msgspec.structs.replace(started, media=wire.media_type(8_000, 2)).pcm_media == (8_000, 2)


@given(st.integers(1, 2**31), st.integers(1, 64))
def test_a_media_type_reads_back(rate_hz: int, channels: int) -> None:
    assert wire.parse_media_type(wire.media_type(rate_hz, channels)) == (rate_hz, channels)


@pytest.mark.parametrize("text", ["", "audio/L16", "audio/L16;rate=x;channels=1", "audio/mpeg;rate=1;channels=1", ";;"])
def test_another_media_type_is_malformed(text: str) -> None:
    with pytest.raises(Malformed, match="media type"):
        wire.parse_media_type(text)


@pytest.mark.parametrize("code", JobError.by_code)
def test_every_error_code_comes_back_as_the_error_it_was(code: str) -> None:
    error = from_code(code, "why", "params.a")
    assert (error.code, str(error)) == (code, "why")


def test_a_code_of_a_newer_peer_reads_as_a_failure_that_names_it() -> None:
    assert str(from_code("melted", "too hot")) == "melted: too hot"
