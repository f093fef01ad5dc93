"""A null in a body is an absent field, whatever the API and the field."""

import msgspec
import pytest

from bus.errors import Invalid
from bus.jobs.validate import read_job
from bus.params import without_nulls
from bus.subjects import JobSubject
from gateway.api.job_fields import JobRequest
from gateway.dialects.elevenlabs.music import MUSIC
from gateway.dialects.elevenlabs.routes import SPEECH as ELEVENLABS
from gateway.dialects.openai.request import SPEECH as OPENAI
from gateway.dialects.plain import PROMPT
from gateway.dialects.vllm.config import CONFIG
from gateway.http.bodies import Body

BODIES = [
    (Body(JobRequest), {"input": "x"}),
    (OPENAI, {"input": "x"}),
    (ELEVENLABS, {"text": "x"}),
    (MUSIC, {"prompt": "x"}),
    (PROMPT, {"prompt": "x"}),
    (CONFIG, {}),
]


@pytest.mark.parametrize(("body", "least"), BODIES, ids=range(len(BODIES)))
def test_every_field_that_may_be_absent_may_be_null(body: Body[msgspec.Struct], least: dict[str, str]) -> None:
    expected = body.read(msgspec.json.encode(least))
    names = type(expected).__struct_encode_fields__
    for name in names:
        assert body.read(msgspec.json.encode({name: None, **least})) == expected, name
    assert body.read(msgspec.json.encode(dict.fromkeys(names) | least)) == expected


def test_a_required_field_that_is_null_is_missing() -> None:
    with pytest.raises(Invalid, match=r"^text: is required"):
        ELEVENLABS.read(b'{"text":null}')


def test_another_fault_beside_a_null_is_named() -> None:
    with pytest.raises(Invalid, match=r"^lane: Expected `str`") as raised:
        Body(JobRequest).read(b'{"input":"x","params":null,"lane":7}')
    assert raised.value.path == "lane"


def test_nulls_of_objects_go_and_those_of_lists_stay() -> None:
    assert without_nulls({"a": None, "b": {"c": None, "d": [None, {"e": None}]}}) == {"b": {"d": [None, {}]}}


def test_a_job_that_was_published_without_a_gateway_may_have_nulls_too() -> None:
    subject = JobSubject(model="tone", version="v1", lane="standard", tenant="acme")
    job = read_job(subject, 7, b'{"input":"x","params":null,"seed":null,"model":null}', 0)
    assert (job.params, job.seed, job.model) == ({}, 0, "tone")
    assert read_job(subject, 7, b'{"input":"x","params":{"seconds":null}}', 0).params == {}
    with pytest.raises(Invalid, match=r"^input: "):
        read_job(subject, 7, b'{"input":null}', 0)
