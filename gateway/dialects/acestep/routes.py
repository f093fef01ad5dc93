"""ACE-Step 1.5's HTTP API: tasks that clients poll until the audio can be downloaded."""

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
from bus.fleet.messages import ModelCard
from bus.options import schema
from bus.params import short
from gateway.access.caller import caller
from gateway.api.audio import respond_with_audio
from gateway.api.job_fields import KEY, JobOptions, build_job, idempotent_id, our_model
from gateway.api.routing import Chosen
from gateway.codecs import format_named
from gateway.dialects.acestep import stats as task_stats
from gateway.dialects.acestep.errors import ErrorResponse, refuse
from gateway.dialects.acestep.fields import Fields
from gateway.dialects.acestep.request import read_body
from gateway.dialects.acestep.results import Entry, TaskResults
from gateway.dialects.acestep.task import FORMATS, MAX_BATCH, Task, new_task
from gateway.http.counting import wait_to_count
from gateway.http.dialect import Dialect
from gateway.http.headers import JOB_HEADER
from gateway.http.operation import AUDIO, Answer, Parameter, operation
from gateway.http.responses import JOB, json_response
from gateway.http.services import FLEET, JOBS, READS, ROUTES
from gateway.jobs.queue_position import position
from gateway.jobs.service import Jobs

T = TypeVar("T")
Token = Annotated[str, schema("The key, unless a header has it.")]

_API: Final = "acestep"
#: The model of tasks whose model no worker offers; the second if no worker offers the first.
_MODEL: Final = "acestep"
_DEFAULT_MODEL: Final = "music"
_DEFAULT_BATCH: Final = 2
#: Tasks in one `query_result`, and tasks that are read at the same time.
_MAX_TASKS: Final = 100
_CONCURRENCY: Final = 8
_FILE: Final = re.compile(r"/jobs/([A-Za-z0-9_-]{1,64})\.([a-z0-9]{1,8})")
#: A pattern for the formats in any case.
_ANY_CASE: Final = f"^({'|'.join(''.join(f'[{c}{c.upper()}]' for c in name) for name in FORMATS)}|)$"
_TEXT_TO_MUSIC: Final = "text2music"
#: Fields that name files of ACE-Step's own server. Files of this one are never read for a client.
_FILE_FIELDS: Final = ("reference_audio_path", "src_audio_path")
_BODY_MEDIA: Final = ("application/json", "multipart/form-data", "application/x-www-form-urlencoded")


class TaskRequest(msgspec.Struct, kw_only=True):
    """The fields that are used here, by their first names. Others are passed to an engine that has them."""

    prompt: str = ""
    lyrics: str = ""
    model: str = ""
    audio_duration: float | None = None
    bpm: float | None = None
    key_scale: str = ""
    batch_size: Annotated[int, Meta(ge=1, le=MAX_BATCH)] | None = None
    audio_format: Annotated[str, schema("In upper or lower case; empty: the first.", pattern=_ANY_CASE)] = FORMATS[0]
    use_random_seed: bool = True
    seed: int | str | list[int] = -1
    task_type: str = _TEXT_TO_MUSIC
    param_obj: dict[str, Any] | str = ""
    metas: dict[str, Any] | str = ""
    ai_token: Token = ""
    #: Ours: params of the engine.
    params: dict[str, Any] = {}


class QueryRequest(msgspec.Struct):
    """The tasks to report."""

    task_id_list: Annotated[list[str], Meta(max_length=_MAX_TASKS)] | str
    ai_token: Token = ""


class Envelope(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """The envelope of every response but errors."""

    data: T
    code: int = 200
    error: None = None
    #: Unix milliseconds.
    timestamp: int
    extra: None = None


class Released(msgspec.Struct, frozen=True):
    """A task that was accepted."""

    task_id: str
    status: Literal["queued"]
    #: From 1; 0 once it has left the queue; absent if unknown.
    queue_position: int | UnsetType = UNSET


@operation(
    "Create a task: as many pieces of music as `batch_size`, with different seeds.",
    text="Fields have several names, and may be in `param_obj` or `metas`, as ACE-Step's clients send them.",
    body=TaskRequest,
    body_media=_BODY_MEDIA,
    parameters=(KEY,),
    key_in="body",
    answers={200: Answer("The task is accepted and durable.", Envelope[Released])},
)
async def release_task(request: web.Request) -> web.Response:
    """`POST /release_task`: makes as many jobs as `batch_size`, which differ in their seeds."""
    jobs = request.app[JOBS]
    body, files = await read_body(request)
    fields = Fields(body)
    model = _model(request, fields)
    card = jobs.card(model.model, model.version)
    _check_task(fields, files, card)
    codec = fields.text("audio_format", FORMATS[0]).lower()
    if codec not in FORMATS:
        raise Invalid(f"audio_format: {short(codec)!r} is not one of {', '.join(FORMATS)}", "audio_format")
    format_named(codec, "audio_format")
    num_jobs = fields.integer("batch_size", 1, MAX_BATCH) or _DEFAULT_BATCH
    task = new_task(num_jobs, codec, idempotent_id(request, _API))
    prompt = fields.text("prompt") or fields.text("sample_query")
    params = fields.params(card)
    seeds = fields.seeds(num_jobs, task.seeds())
    built = [
        build_job(request, _API, JobOptions(seed=seed), model, input=prompt, params=params, job_id=job_id)
        for job_id, seed in zip(task.jobs, seeds, strict=True)
    ]
    size_hint_bytes = request.content_length or 0
    valid = [jobs.validate(job, streams=False, size_hint_bytes=size_hint_bytes) for job in built]
    request[JOB] = valid[0].id
    birth = await _accept_all(request, valid)
    place = await _queue_position(jobs, birth)
    released = Released(task.id, "queued", UNSET if place is None else place)
    return _enveloped(released, {JOB_HEADER: valid[0].id})


def _model(request: web.Request, fields: Fields) -> Chosen:
    """The request's model if a worker or a route has it, else our default: ACE-Step's names are unknown here."""
    name, fleet = fields.text("model"), request.app[FLEET]
    is_known = name in request.app[ROUTES].entries or fleet.card(name) is not None
    default = _MODEL if fleet.card(_MODEL) is not None else _DEFAULT_MODEL
    return our_model(request, name if is_known else "", default=default)


def _check_task(fields: Fields, files: list[str], card: ModelCard) -> None:
    """Raises Invalid for a task that the model would not make as the request describes it."""
    kind = fields.text("task_type", _TEXT_TO_MUSIC)
    if kind != _TEXT_TO_MUSIC and "task_type" not in card.param_schema.get("properties", {}):
        raise Invalid(f"task_type: {card.name} supports {_TEXT_TO_MUSIC}, not {short(kind)!r}", "task_type")
    given = [*files, *(name for name in _FILE_FIELDS if fields.get(name) is not None)]
    if given:
        raise Invalid(f"{given[0]}: {card.name} takes no audio as input", given[0])


async def _accept_all(request: web.Request, task_jobs: list[wire.Job]) -> wire.Birth:
    """Accept all jobs of a task, or cancel those that were accepted before one is refused; the first one's birth.

    Each counts as a request, and waits where the limit of these is reached.
    """
    jobs = request.app[JOBS]
    births: list[wire.Birth] = []
    try:
        for job in task_jobs:
            if births:  # the first one was counted with the request
                await wait_to_count(request)
            accepted = await jobs.accept(job)
            births.append(accepted.birth)
    except BusError:
        for birth in births:
            await jobs.cancel(jobs.key(birth.job.tenant, birth.job.id), "another job of its task was refused")
        raise
    return births[0]


async def _queue_position(jobs: Jobs, birth: wire.Birth) -> int | None:
    """From 1; 0 if the job has left the queue; None while the bus cannot say, which does not affect the task."""
    try:
        place = await position(jobs.bus, jobs.starts, birth)
    except BusError:
        return None
    return 0 if place is None else place.position + 1


@operation(
    "Report the status of tasks.",
    text="An unknown task has status 2 and an error that says so, so that no client polls for it forever.",
    body=QueryRequest,
    body_media=_BODY_MEDIA,
    key_in="body",
    is_counted=False,
    answers={200: Answer("An entry for each task; `result` is JSON in a string.", Envelope[list[Entry]])},
)
async def query_result(request: web.Request) -> web.Response:
    """`POST /query_result`."""
    body, _ = await read_body(request)
    listed = body.get("task_id_list")
    if isinstance(listed, str):
        try:
            listed = msgspec.json.decode(listed)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Invalid(f"task_id_list: is text that is not JSON: {error}", "task_id_list") from None
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise Invalid("task_id_list: must be a list of task ids, or JSON of one", "task_id_list")
    if len(listed) > _MAX_TASKS:
        raise Invalid(f"task_id_list: has {len(listed)} tasks, the limit is {_MAX_TASKS}", "task_id_list")
    results = TaskResults(request.app[JOBS], request.app[FLEET], caller(request).tenant, _path)

    async def entry(task_id: str) -> Entry:
        """The entry of a task, once it is the caller's turn to read it."""
        async with request.app[READS].turn(caller(request).owner):
            return await results.entry(task_id)

    entries: list[Entry] = []
    for start in range(0, len(listed), _CONCURRENCY):
        some = listed[start : start + _CONCURRENCY]
        entries += await asyncio.gather(*map(entry, some))
    return _enveloped(entries)


def _path(task: Task, job_id: str) -> str:
    """The URL path of a job's audio."""
    return f"/v1/audio?path={quote(f'/jobs/{job_id}.{task.format}', safe='')}"


@operation(
    "Download a piece of music that the `result` of its task names.",
    parameters=(Parameter("path", str, "The `path` in a `file` of `result`. It names a job.", required=True),),
    answers={
        200: Answer("The audio; with its length and ranges once the job is done.", None, AUDIO),
        206: Answer("A range of it.", None, AUDIO),
        304: Answer("The client has it already."),
    },
)
async def audio(request: web.Request) -> web.StreamResponse:
    """`GET /v1/audio?path=`: the path looks like a file's, but names a job; no file is ever opened for it."""
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
    "Show the caller's tasks in figures.",
    answers={200: Answer("Figures of the newest jobs.", Envelope[task_stats.Stats])},
)
async def stats(request: web.Request) -> web.Response:
    """`GET /v1/stats`."""
    return _enveloped(await task_stats.stats(request.app[JOBS], caller(request), _API, request.app[READS]))


def _enveloped(data: object, headers: dict[str, str] | None = None) -> web.Response:
    return json_response(Envelope(data=data, timestamp=int(time.time() * 1000)), headers=headers)


DIALECT: Final = Dialect(
    name="acestep",
    title="AceStep",
    prefixes=("/release_task", "/query_result", "/v1/audio", "/v1/stats"),
    routes=(
        web.post("/release_task", release_task),
        web.post("/query_result", query_result),
        web.get("/v1/audio", audio),
        web.get("/v1/stats", stats),
    ),
    refuse=refuse,
    envelope=ErrorResponse,
)
