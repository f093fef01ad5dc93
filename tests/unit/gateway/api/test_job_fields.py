"""Fields of a job: each is accepted wherever a job is, without a list of its own."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import make_mocked_request

from bus import wire
from bus.options import EngineOptions
from bus.transport.parser import Message
from gateway.access.caller import CALLER, Caller
from gateway.api.job_fields import HttpJobRequest, JobOptions, JobRequest, Text, TurnRequest, build_job, job_from
from gateway.api.routing import Chosen
from gateway.dialects import registry
from gateway.http.bodies import Body
from gateway.nats import request as nats_request

#: Fields of `wire.Job` that a caller cannot set, and who sets them.
NOT_THE_CALLERS = {
    "tenant": "the caller's key",
    "client": "the gateway",
    "max_bytes": "the gateway",
    "retry_of": "`antiphon dead retry`",
    "voice_digests": "the gateway, from the model's card",
    "requested": "the gateway",
    "marking": "the gateway, from the policy of the tenant",
    "hops": "the gateway, from a header",
}
FIELDS = {
    "input": "Hello",
    "script": [TurnRequest(text="Hello", speaker="Anna", voice="en")],
    "id": "mine",
    "model": "tone",
    "voice": "en",
    "params": {"seconds": 1},
    "seed": 7,
    "version": "v2",
    "lane": "batch",
    "expires_at": datetime(2031, 1, 1, tzinfo=UTC) + timedelta(hours=1),
    "first_audio_deadline_s": 2.5,
    "run_on": True,
    "linger_s": 3.5,
    "inputs": {"take": "0" * 64},
}
#: Fields that fit no header.
IN_BODY_ONLY = {"input", "script", "params", "inputs"}


def test_every_field_of_a_job_is_the_callers_or_has_another_writer() -> None:
    assert FIELDS.keys() | NOT_THE_CALLERS.keys() == {*wire.Job.__struct_fields__}
    assert {*JobRequest.__struct_fields__} == FIELDS.keys()


def test_no_body_of_another_api_fills_a_field_of_a_job_by_its_name_alone() -> None:
    """`job_from` copies by name: ElevenLabs' `inputs` are no inputs of a job."""
    assert registry.dialects()
    waiting, seen = [JobOptions], []
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind.__module__.startswith("gateway.dialects."):
            seen.append(kind.__name__)
            meant = {*JobOptions.__struct_fields__, "input", "script", "model", "voice"}
            assert {*kind.__struct_fields__} & {*wire.Job.__struct_fields__} <= meant, kind
    assert len(seen) > 5


def test_every_field_of_a_body_over_http_is_in_the_job() -> None:
    request = make_mocked_request("POST", "/v1/jobs")
    request[CALLER] = Caller(tenant="acme", key="k1")
    body = Body(HttpJobRequest).read(msgspec.json.encode(FIELDS))
    assert fields_of(build_job(request, "jobs", body, Chosen(body.model, body.version), job_id=body.id)) == FIELDS


def test_every_field_of_a_body_over_nats_is_in_the_job() -> None:
    message = Message("s", "", b"", msgspec.json.encode(FIELDS))
    assert fields_of(nats_request.read(message, {}, Caller()).job) == FIELDS


@pytest.mark.parametrize("field", sorted(FIELDS.keys() - IN_BODY_ONLY))
def test_every_field_that_fits_a_header_may_be_one_over_nats(field: str) -> None:
    value = FIELDS[field]
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode().strip('"')
    headers = {"antiphon-" + field.replace("_", "-"): text}
    job = nats_request.read(Message("s", "", b"", b'{"input":"x"}'), headers, Caller()).job
    assert getattr(job, field) == value


def test_every_option_of_the_engine_is_in_its_request() -> None:
    job = wire.Job(**FIELDS)
    request = wire.engine_request(job)
    assert {*EngineOptions.__struct_fields__} <= {*wire.EngineRequest.__struct_fields__}
    assert fields_of(request) == {
        name: FIELDS.get(name, {}) for name in wire.EngineRequest.__struct_fields__ if name not in NOT_THE_CALLERS
    }
    assert {*wire.EngineRequest.__struct_fields__} - {*wire.Job.__struct_fields__} == {"voice_files"}
    assert wire.engine_request(wire.Job(input="x", hops=2)).hops == 2
    assert wire.engine_request(wire.Job(input="x", voice_digests={"en": "ab"})).voice_digests == {"en": "ab"}


def fields_of(job: msgspec.Struct) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(job).items() if name not in NOT_THE_CALLERS}


class Options(msgspec.Struct):
    """A body of an API."""

    voice: str = ""
    lane: str = "batch"
    params: dict[str, Any] = {}
    #: No field of a job.
    encoding: str = "raw"


def test_a_job_takes_the_fields_that_options_share_with_it_and_those_given_beside_go_first() -> None:
    job = job_from(Options(voice="en", params={"a": 1}), input="x", lane="standard")
    assert job == wire.Job(input="x", voice="en", lane="standard", params={"a": 1})


def test_a_job_is_not_made_of_a_field_that_it_does_not_have() -> None:
    with pytest.raises(TypeError, match="colour"):
        job_from(Options(), input="x", colour="blue")


def test_no_text_of_white_space_alone_fits_the_documented_pattern() -> None:
    """As the checks have it: JSON Schema does not count U+0085 as white space, and Python does."""
    pattern = re.compile(msgspec.json.schema(Text)["pattern"])
    blanks = [char for char in map(chr, range(0x3001)) if char.isspace()]
    assert len(blanks) > 20
    assert [char for char in blanks if pattern.search(char)] == []
    assert pattern.search("a\u0085b")
