"""ACE-Step 1.5's HTTP API: tasks that are polled until their files can be fetched."""

import asyncio
import re
import time
from typing import Annotated, Any, Final, Generic, Literal, TypeVar
from urllib.parse import quote

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from bus import wire
from bus.errors import BusError, Forbidden, Invalid, NotFound
from bus.fleet.fleet import Fleet
from bus.fleet.messages import ModelCard
from bus.params import short
from gateway.access.caller import caller
from gateway.api.audio import respond_with_audio
from gateway.api.job_fields import KEY, JobOptions, build_job, idempotent_id, schema
from gateway.codecs import format_named
from gateway.dialects.acestep import answer as acestep_told
from gateway.dialects.acestep import request as acestep_asked
from gateway.dialects.acestep.request import THEIRS, Fields
from gateway.dialects.acestep.task import FORMATS, MAX_BATCH, Task, new_task
from gateway.http.dialect import Dialect
from gateway.http.operation import SOUND, Answer, Parameter, operation
from gateway.http.problems import JOB_HEADER, Problem
from gateway.http.rate_limit_headers import makes_no_work
from gateway.http.responses import JOB, json_response
from gateway.http.services import FLEET, JOBS
from gateway.jobs.queue_position import position
from gateway.jobs.service import Jobs

T = TypeVar("T")
Token = Annotated[str, schema("The key, if no header has it.")]

_API: Final = "acestep"
_MODEL: Final = "acestep"
_DEFAULT_MODEL: Final = "music"
_DEFAULT_BATCH: Final = 2
_MAX_ASKED: Final = 100
#: Tasks that are looked at together.
_AT_ONCE: Final = 8
_FILE: Final = re.compile(r"/jobs/([A-Za-z0-9_-]{1,64})\.([a-z0-9]{1,8})")
_ANY_CASE: Final = f"^({'|'.join(''.join(f'[{c}{c.upper()}]' for c in name) for name in FORMATS)}|)$"
_TEXT_TO_MUSIC: Final = "text2music"
#: Of files on the server of theirs; nobody reads ours.
_PATHS: Final = ("reference_audio_path", "src_audio_path")


class TaskBody(msgspec.Struct, kw_only=True):
    """The fields that are of use here, under their first names; more are passed to an engine that has them."""

    prompt: str = ""
    lyrics: str = ""
    model: str = ""
    audio_duration: float | None = None
    bpm: float | None = None
    key_scale: str = ""
    batch_size: Annotated[int, Meta(ge=1, le=MAX_BATCH)] | None = None
    audio_format: Annotated[str, schema("In any case; empty: the first.", pattern=_ANY_CASE)] = FORMATS[0]
    use_random_seed: bool = True
    seed: int | str | list[int] = -1
    task_type: str = _TEXT_TO_MUSIC
    param_obj: dict[str, Any] | str = ""
    metas: dict[str, Any] | str = ""
    ai_token: Token = ""
    #: Ours: in the engine's own words.
    params: dict[str, Any] = {}


class QueryBody(msgspec.Struct):
    task_id_list: Annotated[list[str], Meta(max_length=_MAX_ASKED)] | str
    ai_token: Token = ""


class Enveloped(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """Around every answer that is no error."""

    data: T
    code: int = 200
    error: None = None
    timestamp: int
    extra: None = None


class Released(msgspec.Struct, frozen=True):
    task_id: str
    status: Literal["queued"]
    #: From 1; 0 once it has left the queue.
    queue_position: int | UnsetType = UNSET


class Refusal(msgspec.Struct, frozen=True):
    detail: str


@operation(
    "A task: as many pieces of music as `batch_size`, which differ in their seeds.",
    text="Fields have several names, and may stand in `param_obj` or `metas`, as ACE-Step's clients write them.",
    body=TaskBody,
    body_media=("application/json", "multipart/form-data", "application/x-www-form-urlencoded"),
    parameters=(KEY,),
    key_in="body",
    answers={200: Answer("It is accepted, and nothing short of its ending loses it.", Enveloped[Released])},
)
async def release_task(request: web.Request) -> web.Response:
    """`POST /release_task`: as many jobs as `batch_size`, that differ in their seeds."""
    service, fleet = request.app[JOBS], request.app[FLEET]
    raw, files = await acestep_asked.read(request)
    fields = Fields(raw)
    model = _model(fleet, fields)
    card = service.card(model)
    _check_task(fields, files, card)
    codec = fields.text("audio_format", FORMATS[0]).lower()
    if codec not in FORMATS:
        raise Invalid(f"audio_format: {short(codec)!r} is not one of {', '.join(FORMATS)}", "audio_format")
    format_named(codec, "audio_format")
    count = fields.whole("batch_size", 1, MAX_BATCH) or _DEFAULT_BATCH
    task = new_task(count, codec, idempotent_id(request, _API))
    prompt, params = fields.text("prompt") or fields.text("sample_query"), fields.params(card)
    jobs = [
        service.validate(
            build_job(request, _API, JobOptions(seed=seed), input=prompt, model=model, params=params, job_id=job_id),
            streams=False,
            size_hint_bytes=request.content_length or 0,
        )
        for job_id, seed in zip(task.jobs, fields.seeds(task.count, task.seeds()), strict=True)
    ]
    request[JOB] = jobs[0].id
    birth = await _accept(service, jobs)
    position = await _position(service, birth)
    told = Released(task.id, "queued", UNSET if position is None else position)
    return _enveloped(told, {JOB_HEADER: jobs[0].id})


def _model(fleet: Fleet, fields: Fields) -> str:
    """The model asked for if a worker has it: theirs have names that nobody here need know."""
    asked = fields.text("model")
    if asked and fleet.card(asked) is not None:
        return asked
    return _MODEL if fleet.card(_MODEL) is not None else _DEFAULT_MODEL


def _check_task(fields: Fields, files: list[str], card: ModelCard) -> None:
    """Raises Invalid for what would come out as something else than was asked for."""
    kind = fields.text("task_type", _TEXT_TO_MUSIC)
    if kind != _TEXT_TO_MUSIC and "task_type" not in card.param_schema.get("properties", {}):
        raise Invalid(f"task_type: {card.name} does {_TEXT_TO_MUSIC}, not {short(kind)!r}", "task_type")
    given = [*files, *(name for name in _PATHS if fields.get(name) is not None)]
    if given:
        raise Invalid(f"{given[0]}: {card.name} listens to no audio", given[0])


async def _accept(service: Jobs, jobs: list[wire.Job]) -> wire.Birth:
    """Put all on the bus, or none; the first one's birth."""
    births: list[wire.Birth] = []
    try:
        for job in jobs:
            accepted = await service.accept(job)
            births.append(accepted.birth)
    except BusError:
        for birth in births:
            await service.cancel(service.key(birth.job.tenant, birth.job.id), "another job of its task was refused")
        raise
    return births[0]


async def _position(service: Jobs, birth: wire.Birth) -> int | None:
    """In the queue, from 1; 0 once it has left it; None if that cannot be told now: the task stands all the same."""
    try:
        found = await position(service.bus, service.starts, birth)
    except BusError:
        return None
    return 0 if found is None else found.position + 1


@makes_no_work
@operation(
    "How tasks stand.",
    text="A task that nobody knows is at status 2 and says so: nobody polls for ever.",
    body=QueryBody,
    body_media=("application/json", "multipart/form-data", "application/x-www-form-urlencoded"),
    key_in="body",
    answers={200: Answer("One entry for each; `result` is JSON within JSON.", Enveloped[list[acestep_told.Entry]])},
)
@makes_no_work
async def query_result(request: web.Request) -> web.Response:
    """`POST /query_result`."""
    raw, _ = await acestep_asked.read(request)
    service, fleet, tenant = request.app[JOBS], request.app[FLEET], caller(request).tenant
    listed = raw.get("task_id_list")
    if isinstance(listed, str):
        try:
            listed = msgspec.json.decode(listed)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Invalid(f"task_id_list: is text that is no JSON: {error}", "task_id_list") from None
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise Invalid("task_id_list: must be a list of task ids, or JSON of one", "task_id_list")
    if len(listed) > _MAX_ASKED:
        raise Invalid(f"task_id_list: has {len(listed)} tasks, the limit is {_MAX_ASKED}", "task_id_list")
    told: list[acestep_told.Entry] = []
    for start in range(0, len(listed), _AT_ONCE):
        some = listed[start : start + _AT_ONCE]
        told += await asyncio.gather(*(acestep_told.task(service, fleet, tenant, task_id, _path) for task_id in some))
    return _enveloped(told)


def _path(task: Task, job_id: str) -> str:
    """Where a job's file is fetched."""
    return f"/v1/audio?path={quote(f'/jobs/{job_id}.{task.format}', safe='')}"


@operation(
    "A piece of music, as its task's `result` names it.",
    parameters=(Parameter("path", str, "A name of ours that looks like a file's.", required=True),),
    answers={
        200: Answer("The sound; with a length and ranges once it is done.", None, SOUND),
        206: Answer("A part of it.", None, SOUND),
        304: Answer("It is what the client has."),
    },
)
async def audio(request: web.Request) -> web.StreamResponse:
    """`GET /v1/audio?path=`: a name of ours that looks like a file's. No file is ever opened for it."""
    path = request.query.get("path")
    if path is None:
        raise Invalid("path: is required", "path")
    if not path.startswith("/jobs/") or ".." in path or "\\" in path or "%" in path:
        raise Forbidden(f"path: {short(path)!r} is outside of /jobs/")
    named = _FILE.fullmatch(path)
    if named is None or named[2] not in FORMATS:
        raise NotFound(f"no file {short(path)!r}")
    key = request.app[JOBS].key(caller(request).tenant, named[1])
    request[JOB] = named[1]
    return await respond_with_audio(request, key, format_named(named[2], "path"))


@operation(
    "The caller's tasks in figures.",
    answers={200: Answer("Of the newest ones.", Enveloped[acestep_told.Stats])},
)
async def stats(request: web.Request) -> web.Response:
    """`GET /v1/stats`."""
    return _enveloped(await acestep_told.stats(request.app[JOBS], caller(request).tenant, _API))


def _enveloped(data: object, headers: dict[str, str] | None = None) -> web.Response:
    return json_response(Enveloped(data=data, timestamp=int(time.time() * 1000)), headers=headers)


def refuse(problem: Problem) -> web.Response:
    """`{"detail": "…"}`; what is wrong with a request is 400 there, never 422."""
    detail = problem.detail
    for ours, theirs in {"input": "prompt", **{f"params.{ours}": theirs for ours, theirs in THEIRS.items()}}.items():
        if detail.startswith(f"{ours}: "):
            detail = theirs + detail.removeprefix(ours)
    return web.Response(
        status=400 if problem.status == 422 else problem.status,
        body=msgspec.json.encode(Refusal(detail)),
        content_type="application/json",
        headers=problem.headers,
    )


DIALECT: Final = Dialect(
    prefixes=("/release_task", "/query_result", "/v1/audio", "/v1/stats"),
    routes=(
        web.post("/release_task", release_task),
        web.post("/query_result", query_result),
        web.get("/v1/audio", audio),
        web.get("/v1/stats", stats),
    ),
    refuse=refuse,
    name="acestep",
    envelope=Refusal,
)
