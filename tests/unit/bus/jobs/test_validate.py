"""The limits of a job, and that whatever passes them can be written by every later encoder."""

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given

from bus import wire
from bus.errors import Invalid, Malformed
from bus.jobs import ids
from bus.jobs.birth import digest, new_birth, next_deadline
from bus.jobs.scripts import check_turns
from bus.jobs.validate import (
    MAX_DEPTH,
    MAX_INTEGER,
    MIN_INTEGER,
    check_deadline,
    check_id,
    check_job,
    check_length,
    check_size,
    read_job,
    usable_id,
)
from bus.options import MAX_DEADLINE_S
from bus.script import MAX_TURNS, Turn
from bus.subjects import JobSubject
from tests.support.odd_jobs import odd_messages

NOW_S = 1_800_000_000.0
NOW = datetime.fromtimestamp(NOW_S, UTC)
SUBJECT = JobSubject("tone", "v1", "standard", "public")


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


def read(payload: bytes) -> wire.Job:
    return read_job(SUBJECT, 7, payload, NOW_S)


@pytest.mark.parametrize(
    ("fields", "path", "limit"),
    [
        ({"input": ""}, "input", "empty"),
        ({"input": " \n"}, "input", "empty"),
        ({"input": "a\x00b"}, "input", "position 1"),
        ({"seed": -1}, "seed", "0 to"),
        ({"seed": 2**63}, "seed", "9223372036854775807"),
        ({"seed": 10**4000}, "seed", "9223372036854775807"),
        ({"linger_s": -0.1}, "linger_s", "3600"),
        ({"linger_s": 1e300}, "linger_s", "3600"),
        ({"linger_s": math.nan}, "linger_s", "3600"),
        ({"first_audio_deadline_s": 0.0}, "first_audio_deadline_s", "43200"),
        ({"first_audio_deadline_s": 1e300}, "first_audio_deadline_s", "43200"),
        ({"params": {"a": MAX_INTEGER + 1}}, "params.a", str(MAX_INTEGER)),
        ({"params": {"a": MIN_INTEGER - 1}}, "params.a", str(MIN_INTEGER)),
        ({"params": {"a": [0, {"b": 10**30}]}}, "params.a.1.b", f"{10**30}"),
        ({"params": {"a": 10**4000}}, "params.a", "bits"),
        ({"params": {"a": math.inf}}, "params.a", "finite"),
        ({"params": nested(MAX_DEPTH + 1)}, "params.a.a.a.a.a.a.a…", f"the limit is {MAX_DEPTH}"),
        ({"client": wire.Client(key="a.b")}, "client.key", "64"),
        ({"script": [Turn(text="x")]}, "script", "an input too ('x')"),
        ({"input": "", "script": [Turn(text="x")] * 10_000}, "script", "has 10000 turns, the limit is 1000"),
        ({"input": "", "script": [Turn(text="x"), Turn(text=" ")]}, "script[1].text", "empty (' ')"),
        ({"input": "", "script": [Turn(text="a\x00")]}, "script[0].text", "U+0000 at position 1"),
        (
            {"input": "", "script": [Turn(text="x", speaker="y" * 101)]},
            "script[0].speaker",
            "101 characters, the limit is 100",
        ),
    ],
)
def test_a_value_outside_its_limit_is_refused_by_name(fields: dict[str, Any], path: str, limit: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_job(wire.Job(**{"input": "x", **fields}))
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: ")
    assert limit in str(caught.value)


@pytest.mark.parametrize(
    "params", [{"a": MAX_INTEGER}, {"a": MIN_INTEGER}, {"a": True, "b": None, "c": "x", "d": 1e308}, nested(MAX_DEPTH)]
)
def test_a_value_at_its_limit_passes(params: dict[str, Any]) -> None:
    check_job(wire.Job(input="x\n", params=params, seed=2**63 - 1, linger_s=3600, first_audio_deadline_s=43_200))


@pytest.mark.parametrize(
    ("due", "says"),
    [
        (datetime(2030, 1, 1), "offset"),  # noqa: DTZ001  # the fault
        (datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(hours=-23, minutes=-59))), "years 1 to 9999"),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=23, minutes=59))), "years 1 to 9999"),
        (datetime(9999, 12, 31, tzinfo=UTC), "12 h"),
        (NOW + timedelta(seconds=MAX_DEADLINE_S + 1), "12 h"),
        (NOW, "past"),
        (datetime(1, 1, 1, tzinfo=UTC), "past"),
    ],
)
def test_a_deadline_outside_the_contract_is_refused(due: datetime, says: str) -> None:
    with pytest.raises(Invalid, match=says) as caught:
        check_deadline(due, NOW_S)
    assert caught.value.path == "expires_at"


def test_a_deadline_within_the_contract_passes() -> None:
    for left_s in (0.001, MAX_DEADLINE_S):
        check_deadline(NOW + timedelta(seconds=left_s), NOW_S)


def test_a_queued_job_may_be_past_its_deadline_and_the_workers_clock_behind() -> None:
    """The one expires, the other was accepted with the longest deadline by a gateway whose clock is ahead."""
    for left_s in (-3600, MAX_DEADLINE_S + 5):
        due = NOW + timedelta(seconds=left_s)
        assert read(wire.encode(wire.Job(input="x", expires_at=due))).expires_at == due
    with pytest.raises(Invalid, match="12 h"):
        read(wire.encode(wire.Job(input="x", expires_at=NOW + timedelta(hours=13))))


def test_ids_lengths_and_sizes_have_limits() -> None:
    check_id("a" * 64)
    check_length("abc", 3)
    check_size(3, 3)
    for check in (lambda: check_id("a" * 65), lambda: check_length("abc", 2), lambda: check_size(4, 3)):
        with pytest.raises(Invalid):
            check()


def test_fields_of_a_newer_gateway_are_ignored() -> None:
    body = b'{"input":"x","mood":{"a":1e9,"b":[1,{}]},"client":{"api":"jobs","region":"eu","webhook":{"url":"http://h/x","x":1}}}'
    assert read(body).input == "x"


def test_a_derived_id_must_be_derived_from_its_job() -> None:
    job = wire.Job(input="x", model="tone", version="v1", lane="standard", tenant="public")
    for job_id in (ids.derived_from(job), f"{ids.derived_from(job)}-3"):
        own = msgspec.structs.replace(job, id=job_id)
        assert read(wire.encode(own)).id == job_id
        with pytest.raises(Invalid, match="identical requests share"):
            read(wire.encode(msgspec.structs.replace(own, input="y")))
        # A newer gateway derives the id from a field that this process does not know.
        assert read(b'{"mood":1,' + wire.encode(msgspec.structs.replace(own, input="y"))[1:]).id == job_id


@pytest.mark.parametrize(
    ("payload", "job_id"),
    [
        (b'{"id":"mine","seed":1e99}', "mine"),
        (b'{"id":"a.b"}', "q7"),
        (b'{"id":"q8"}', "q7"),
        (b'{"id":3}', "q7"),
        (b'{"input":"x"}', "q7"),
        (b"[]", "q7"),
        (b"\xff", "q7"),
    ],
)
def test_the_publisher_of_an_invalid_message_finds_its_log(payload: bytes, job_id: str) -> None:
    assert usable_id(payload, 7) == job_id


@given(odd_messages())
def test_any_message_is_refused_or_can_be_written_by_every_later_encoder(payload: bytes) -> None:
    assert usable_id(payload, 7)
    try:
        job = read(payload)
    except (Malformed, Invalid) as error:
        wire.encode(str(error))
        return
    birth = new_birth(job, 7, NOW_S)
    assert wire.decode(wire.Birth, wire.encode(birth)) == birth
    msgspec.msgpack.encode(wire.engine_request(birth.job))
    assert next_deadline(birth, has_audio=False)[0] <= NOW_S + MAX_DEADLINE_S + 60


def test_a_script_of_the_most_turns_is_a_job_and_part_of_its_identity() -> None:
    script = [Turn(text=f"{n}", voice="en") for n in range(MAX_TURNS)]
    job = wire.Job(script=script)
    check_job(job)
    assert digest(job) != digest(wire.Job(script=[*script[:-1], Turn(text="x", voice="en")]))
    assert digest(job) != digest(wire.Job(script=[*script[:-1], Turn(text=script[-1].text, voice="de")]))
    assert wire.decode(wire.Job, wire.encode(job)) == job


def test_a_script_needs_a_model_that_takes_one_and_is_as_long_as_an_input_in_all() -> None:
    job = wire.Job(script=[Turn(text="x" * 50), Turn(text="y" * 50)], model="speech")
    check_turns(job, 101, takes_scripts=True)
    with pytest.raises(Invalid, match=r"^script: has 101 characters in all, the limit is 100$"):
        check_turns(job, 100, takes_scripts=True)
    with pytest.raises(Invalid, match=r"^script: 'speech' takes no script"):
        check_turns(job, 101, takes_scripts=False)
