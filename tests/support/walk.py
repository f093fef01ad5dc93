"""Every route of the OpenAPI document, every place in it that can hold an id, and what a request for it is answered."""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

#: What may differ between two answers that tell the same: times, and names that are drawn.
_VOLATILE = (
    (
        re.compile(r'"(timestamp|heard_s|clock_skew_s|rss_bytes|requests|queued_s|first_block_s|total_s)":\s*[-\d.e]+'),
        "",
    ),
    (re.compile(r'"(in_flight|position|eta_s|queue_position|avg_job_seconds|speech_s)":\s*[-\d.e]+'), ""),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "<time>"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}|[kc]?[0-9a-f]{32,40}"), "<drawn>"),
    (re.compile(r"al\.[0-9a-f]{12}\.[\w-]+\.[\w-]+"), "<link>"),
    (re.compile(r'"cache":\{[^}]*\}|"jobs":\{"total":[^}]*\}'), ""),
)
#: Whatever state a job of the asker's own is in by now.
_STATE = re.compile(r'"(state|status)":"\w+"')
_PIECE = re.compile(r'"audio_base64":"[^"]*"')
_HEADERS = {"Date", "Server", "X-Request-Id", "OpenAI-Processing-Ms", "Content-Length", "Transfer-Encoding", "ETag"}
#: Fields that are spoken or displayed; an id in them is a text.
TEXTS = frozenset({"input", "prompt", "text", "lyrics", "caption", "instructions", "previous_text", "next_text"})


WITHIN_S = 30.0


@dataclass(frozen=True)
class IdPlace:
    """Where in a request an id can stand."""

    where: str
    name: str
    is_list: bool = False


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    places: tuple[IdPlace, ...]
    #: The least that it takes, as JSON; None: no body.
    body: dict[str, Any] | None
    #: In which form the body goes out.
    media: str

    @property
    def makes_work(self) -> bool:
        """Or ends it: its answers depend on what was asked before."""
        return self.method != "GET"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: str


def unknown_id_like(job_id: str) -> str:
    """An id of the same form that no job has. Only its last figure differs: a door that reads numbers, and says where
    one breaks off, meets the same one in both.
    """
    job_id, dash, nth = job_id.partition("-")
    return job_id[:-1] + ("1" if job_id[-1] == "0" else "0") + dash + nth


def routes(document: Mapping[str, Any], text: str) -> list[Route]:
    """Every operation; `text` is what a body asks to be made of."""
    return [
        _route(document, path, method, operation, text)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def _route(document: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any], text: str) -> Route:
    found = [IdPlace(each["in"], each["name"]) for each in operation["parameters"]]
    body, media = None, ""
    if "requestBody" in operation:
        media = next(iter(operation["requestBody"]["content"]))
        schema = resolved(document, operation["requestBody"]["content"][media]["schema"])
        fields = schema.get("properties", {})  # a file has none
        body = _least(fields, schema.get("required", []), text)
        for name, each in fields.items():
            kinds = set(_types(document, each))
            if name not in TEXTS and kinds & {"string", "array", ""}:
                found.append(IdPlace("body", name, is_list="string" not in kinds))
    return Route(method.upper(), path, tuple(found), body, media)


def resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def _types(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    schema = resolved(document, schema)
    for each in schema.get("anyOf", []):
        yield from _types(document, each)
    if "anyOf" not in schema:
        yield schema.get("type", "string" if "enum" in schema else "")


def names_in(
    document: Mapping[str, Any], schema: Mapping[str, Any], seen: frozenset[int] = frozenset()
) -> Iterator[str]:
    """Every name of a field in a schema, however deep."""
    schema = resolved(document, schema)
    if id(schema) in seen:
        return
    seen |= {id(schema)}
    for name, each in schema.get("properties", {}).items():
        yield name
        yield from names_in(document, each, seen)
    for each in (*schema.get("anyOf", []), *([schema["items"]] if "items" in schema else [])):
        yield from names_in(document, each, seen)


def _least(fields: Mapping[str, Any], required: list[str], text: str) -> dict[str, Any]:
    """A body that is accepted, if anything is; it asks for a tenth of a second of `tone`."""
    body: dict[str, Any] = dict.fromkeys(required, text)
    known: dict[str, Any] = {
        "model": "tone",
        "model_id": "tone",
        "params": {"seconds": 0.1},
        "prompt": text,
        "response_format": "pcm",
        "audio_format": "wav",
        "batch_size": 1,
        "items": [{"input": text}],
        "task_id_list": ["nobody"],
    }
    return body | {name: value for name, value in known.items() if name in fields}


async def ask(http: aiohttp.ClientSession, route: Route, place: IdPlace | None, job_id: str, default_id: str) -> Answer:
    """Send a request with `job_id` in one place, and an id that no job has in those that must hold one."""
    given = {place: job_id} if place is not None else {}
    filled = {each.name: given.get(each, default_id) for each in route.places if each.where == "path"}
    if place is None or place.name != "n":
        filled["n"] = "0"
    path = re.sub(r"\{(\w+)\}", lambda match: filled[match[1]], route.path)
    query = {each.name: value for each, value in given.items() if each.where == "query"}
    if "path" in {each.name for each in route.places if each.where == "query"}:
        query["path"] = f"/jobs/{query.get('path', default_id)}.wav"
    headers = {each.name: value for each, value in given.items() if each.where == "header"}
    headers["Cache-Control"] = "no-store"  # or the second of two askers would hear what the first had made
    body = None if route.body is None else dict(route.body)
    if place is not None and place.where == "body":
        assert body is not None
        body[place.name] = [job_id] if place.is_list else job_id
    data = None if body is None else json.dumps(body).encode() + b"\n"
    if data is not None:
        headers["Content-Type"] = route.media
    async with (
        asyncio.timeout(WITHIN_S),  # a listener of a job that runs would listen for long
        http.request(route.method, path, params=query, data=data, headers=headers) as answer,
    ):
        text = (await answer.read()).decode("latin-1")
        shown = {name: value for name, value in answer.headers.items() if name not in _HEADERS}
    return Answer(
        answer.status,
        tuple(sorted((name, _plain(value, job_id, default_id)) for name, value in shown.items())),
        _plain(text, job_id, default_id, is_state_known=not route.makes_work),
    )


def _plain(text: str, job_id: str, default_id: str, *, is_state_known: bool = False) -> str:
    """With the asker's own words for ids blotted out, and what depends on the time."""
    for known in (job_id, default_id):
        text = text.replace(known, "<id>")
    for pattern, instead in _VOLATILE:
        text = pattern.sub(instead, text)
    if is_state_known:
        return text
    # How many pieces a sound comes in is chance.
    return "\n".join(dict.fromkeys(_PIECE.sub("", _STATE.sub("", text)).split("\n")))
