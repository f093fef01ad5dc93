"""Hooks and checks of our API for schemathesis, besides its document. Loaded by its command line."""

import re
from typing import Any
from urllib.parse import urlencode

import jsonschema
import msgspec
import schemathesis
from schemathesis import Case, CheckContext, Response
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from bus.params import without_nulls

LINES = "application/x-ndjson"
#: Fields whose right values no document can list, and why.
UNTELLABLE = {
    "voice": "those of the model that is asked for",
    "params": "those of the model's engine",
    "expires_at": "it must lie ahead of now, and within 12 h",
    "output_format": "those that the gateway's codecs make",
    "rate": "those of the format that is asked for",
    "sample_rate": "those of the format that is asked for",
    "bitrate": "those of the format that is asked for",
    "duration": "a model may decide that itself",
    "prompt": "music wants five characters; exactly one of it and a plan",
    "composition_plan": "needs parts",
    "music_length_ms": "goes with a prompt alone",
    "task_id_list": "JSON within text",
    "param_obj": "JSON within text",
    "metas": "JSON within text",
    "seed": "numbers within text",
    "id": "that of the path, if that has one",
    "task_type": "those of the model's engine",
    "script": "models that speak, without an input",
    "webhook": "no private addresses, whatever their names",
    "inputs": "digests of blobs that the caller has put, by names of the model's card",
    "body": "a file of one byte or more",
    "audio_sample": "a sound that can be decoded",
    "files": "a sound that can be decoded",
    **dict.fromkeys(("consent", "ref_text", "speaker_description", "description"), "words without control characters"),
    "name": "no name of another voice of the caller, and no control characters",
    "Range": "within the file, whose size depends on the job",
}
UNSAYABLE = {
    "input: is empty ('')": "there may be a script in its place",
    "must be a number, not 'null'": "a form has no null, and schemathesis writes the word",
    "the limit of one job of this deployment is": "it depends on the store, and the length on the model",
    "Expected `int | null`, got `float`": "as below",
    "Expected `int`, got `float`": "to JSON Schema 1.0 is an integer, to our decoders it is none",
    "a part has no name": "as below: schemathesis writes an odd name that no parser reads as one",
    "Invalid HTTP header": "in multipart forms names are parts of headers, and cannot have every character",
}
#: A client that waits for less gets 504, as it should.
PATIENT_S = 60.0


MAX_QUERY_BYTES = 7000
#: Paths whose bodies know no model, and no field that they do not know.
TAKE_NO_MODEL = {"/v1/jobs/{id}/links"}
#: Right at every door that knows the field, and quickly made.
CAN_BE_HAD: dict[str, Any] = {
    "model": "tone",
    "model_id": "tone",
    "version": "",
    "voice": "",
    "params": {},
    "task_type": "text2music",
    "duration": 0.1,
    "audio_duration": 0.1,
    "music_length_ms": 3000,
}


@schemathesis.serializer(LINES)
def one_line(ctx: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else msgspec.json.encode(value) + b"\n"


@schemathesis.deserializer(LINES)
def first_line(ctx: Any, response: Response) -> Any:
    """The others are looked at by `lines_are_as_described`."""
    return msgspec.json.decode(response.content.split(b"\n")[0])


@schemathesis.hook
def filter_query(ctx: Any, query: Any) -> bool:
    """A path and query of more than 8190 bytes come to no door: they are refused before one is known, with 414."""
    return len(urlencode(query or {}, doseq=True)) < MAX_QUERY_BYTES


@schemathesis.hook
def map_body(ctx: Any, body: Any) -> Any:
    """Half of the bodies ask for what can be had, where the document allows for more. What is wrong stays wrong."""
    if not isinstance(body, dict) or ctx.operation.path in TAKE_NO_MODEL:
        return body
    soon_s = body.get("first_audio_deadline_s")
    if isinstance(soon_s, float | int) and 0 < soon_s < PATIENT_S:
        body = {**body, "first_audio_deadline_s": PATIENT_S}
    if len(str(body)) % 2:
        return body
    had = {name: value for name, value in CAN_BE_HAD.items() if type(body.get(name)) is type(value)}
    model = "model_id" if ctx.operation.path.startswith(("/v1/music", "/v1/text-to-")) else "model"
    return {**body, **had, **({} if model in body else {model: "tone"})}


@schemathesis.check
def lines_are_as_described(ctx: CheckContext, response: Response, case: Case) -> None:
    """Every line of an answer in lines has the schema of one."""
    if not response.headers.get("content-type", [""])[0].startswith(LINES):
        return
    document = case.operation.schema.raw_schema
    schema = document["paths"][case.path][case.method.lower()]["responses"]["200"]["content"][LINES]["schema"]
    validator = jsonschema.Draft202012Validator({**schema, "components": document["components"]})
    for line in response.content.splitlines():
        validator.validate(msgspec.json.decode(line))


@schemathesis.check
def refused_for_what_the_document_tells(ctx: CheckContext, response: Response, case: Case) -> bool | None:
    """A request that the document allows is accepted, or refused for a field that it cannot describe completely."""
    if 101 in map(int, filter(str.isdigit, case.operation.definition.raw["responses"])):
        return None  # a WebSocket: no request that this client can make is a good one
    if response.status_code in {400, 413, 416, 422} and (
        field_of(response) in UNTELLABLE or any(words in response.text for words in UNSAYABLE)
    ):
        return None
    return positive_data_acceptance(ctx, response, case)


@schemathesis.check
def what_the_document_forbids_is_refused(ctx: CheckContext, response: Response, case: Case) -> bool | None:
    """By a status; what is wrong with one of many is that one's error, and the others stand."""
    if response.status_code == 200 and case.path == "/v1/jobs:batch":
        statuses = [msgspec.json.decode(line)["status"] for line in response.content.splitlines()]
        if any(400 <= status < 500 for status in statuses):
            return None
    if response.status_code == 200 and case.path == "/v1/audio/speech/batch" and response.json()["failed"]:
        return None
    if response.status_code < 300 and is_right_without_nulls(case):
        return None
    return negative_data_rejection(ctx, response, case)


def is_right_without_nulls(case: Case) -> bool:
    """Whether the body is one that the document allows, once its nulls are absent: that is what a null means."""
    contents = case.operation.definition.raw.get("requestBody", {}).get("content", {})
    content = contents.get("application/json") or contents.get(LINES)
    if content is None or not isinstance(case.body, dict):
        return False
    schema = {**content["schema"], "components": case.operation.schema.raw_schema["components"]}
    return bool(jsonschema.Draft202012Validator(schema).is_valid(without_nulls(case.body)))


def field_of(response: Response) -> str:
    """The first part of the field's name that a refusal is about, in the envelope of whichever door."""
    problem = response.json()
    if "path" in problem:
        path = problem["path"]
    elif isinstance(problem.get("error"), dict):
        path = problem["error"]["param"] or ""
    elif isinstance(problem.get("detail"), list):
        path = ".".join(problem["detail"][0]["loc"][1:])
    else:
        path = re.match(r"[\w.]*(?=: )|", str(problem.get("detail")))[0]  # type: ignore[index]  # it always matches
    return re.split(r"[.\[]", str(path))[0]
