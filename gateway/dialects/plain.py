"""The plain doors: a prompt and a duration in, a file or its pieces out, for scripts of a few lines."""

from contextlib import aclosing
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web

from bus import wire
from bus.errors import Invalid
from bus.fleet.messages import ModelCard
from bus.wire import State
from gateway.api import audio
from gateway.api.job_fields import KEY, JobOptions, Model, Text, Voice, build_job, schema
from gateway.http.bodies import Body
from gateway.http.dialect import Dialect
from gateway.http.operation import SOUND, Answer, Parameter, operation
from gateway.http.problems import JOB_HEADER, BlockNotYet, NoSuchBlock, respond
from gateway.http.responses import JOB, json_response
from gateway.http.services import JOBS, job_key
from gateway.jobs.pcm_reader import failure
from gateway.streaming.live import stream_for

_API: Final = "plain"
_DEFAULT_MODEL: Final = "music"
_MIN_MUSIC_PROMPT_CHARS: Final = 5


class Prompt(JobOptions, frozen=True, kw_only=True):
    """Fields that nobody knows are ignored."""

    prompt: Text
    duration: Annotated[float, schema("Seconds; null: the model's default.")] | None = None
    model: Model = _DEFAULT_MODEL
    voice: Voice = ""


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is there."""

    id: str
    status: str
    url: str
    #: Seconds.
    duration: float
    #: Hz.
    sample_rate: int
    channels: int


class Task(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a task stands."""

    task_id: str
    status: State
    #: So far.
    chunks: int = 0


_body: Final = Body(Prompt)


@operation(
    "Music, or any sound, as a file.",
    text="Answers once the file is there; hanging up stops the work.",
    body=Prompt,
    parameters=(KEY,),
    answers={200: Answer("Where the file is.", Output)},
)
async def generate(request: web.Request) -> web.Response:
    """`POST /generate`: answers once the file is there. Hanging up is leaving."""
    job = await _ordered(request, streams=True)
    async with stream_for(request, job, own_id=True) as stream:
        async with aclosing(aiter(stream)) as pieces:
            async for _ in pieces:
                continue  # the file is read from the log when it is asked for
        job_id, done, (rate_hz, channels) = stream.key.job, stream.done, stream.media
    url = f"/output/{job_id}.wav"
    told = Output(id=job_id, status="done", url=url, duration=done.seconds, sample_rate=rate_hz, channels=channels)
    return json_response(told, headers={JOB_HEADER: job_id, "Location": url})


@operation(
    "The same, without waiting.",
    body=Prompt,
    parameters=(KEY,),
    answers={200: Answer("The task, whose chunks can be asked for from now on, and whose file.", Task)},
)
async def start(request: web.Request) -> web.Response:
    """`POST /api/generate`: answers as soon as the job is accepted; the work goes on when nobody listens."""
    jobs = request.app[JOBS]
    job = await _ordered(request, streams=False)
    request[JOB] = job.id
    accepted = await jobs.accept(job)
    status = State.QUEUED if accepted.is_new else (await jobs.find(jobs.key(job.tenant, job.id))).state
    return json_response(Task(task_id=job.id, status=status), headers={JOB_HEADER: job.id})


@operation(
    "One piece of a task's sound.",
    parameters=(Parameter("n", int, "Counted from 0.", "path", required=True),),
    answers={
        200: Answer("The piece, a WAV of its own.", media=SOUND),
        202: Answer("It may still come: ask again.", Task),
    },
)
async def chunk(request: web.Request) -> web.Response:
    """`GET /api/chunk/{id}/{n}`: one block as a WAV; 202 while it may still come, 404 behind the last of a whole job.

    Raises how the job ended for a block that it never made.
    """
    try:
        return await audio.block(request)
    except (BlockNotYet, NoSuchBlock):
        found = await request.app[JOBS].find(job_key(request))
    blocks = found.position.block
    if int(request.match_info["n"]) < blocks:  # it came between the two looks
        return await audio.block(request)
    if found.state == "done":
        raise NoSuchBlock(f"n: the task is done and has {blocks} chunks, the last is {blocks - 1}")
    if found.is_ended:
        assert found.tail is not None
        raise failure(found.tail)
    job_id = found.birth.job.id
    told = Task(task_id=job_id, status=found.state, chunks=blocks)
    return json_response(told, 202, {JOB_HEADER: job_id, "Retry-After": "1"})


async def _ordered(request: web.Request, *, streams: bool) -> wire.Job:
    """A complete job. Raises as `Validation.complete` does; paths are those of the door's own fields."""
    data = await request.read()
    asked = _body.read(data)
    jobs = request.app[JOBS]
    card = jobs.card(asked.model, asked.version)
    if card.kind == "music" and len(asked.prompt.strip()) < _MIN_MUSIC_PROMPT_CHARS:
        raise Invalid(
            f"prompt: must have at least {_MIN_MUSIC_PROMPT_CHARS} characters to make music of, not {asked.prompt!r}",
            "prompt",
        )
    job = build_job(
        request,
        _API,
        asked,
        input=asked.prompt,
        model=asked.model,
        voice=asked.voice,
        params=_params(asked, card),
    )
    try:
        return jobs.validate(job, streams=streams, size_hint_bytes=len(data))
    except Invalid as error:
        raise _renamed(error, asked) from error


def _params(asked: Prompt, card: ModelCard) -> dict[str, Any]:
    if asked.duration is None:
        return asked.params
    if "seconds" not in card.param_schema.get("properties", {}):
        raise Invalid(f"duration: {card.name} decides itself how long it takes", "duration")
    return {"seconds": asked.duration, **asked.params}


def _renamed(error: Invalid, asked: Prompt) -> Invalid:
    """`error` in the words of this door."""
    names = {"input": "prompt"} | ({} if asked.duration is None else {"params.seconds": "duration"})
    name = names.get(error.path)
    if name is None:
        return error
    return Invalid(str(error).replace(error.path, name, 1), name)


DIALECT: Final = Dialect(
    name="plain",
    prefixes=("/generate", "/output/", "/api/"),
    routes=(
        web.post("/generate", generate),
        web.get("/output/{id}.wav", audio.audio),
        web.post("/api/generate", start),
        web.get("/api/chunk/{id}/{n}", chunk, allow_head=False),
    ),
    refuse=respond,
)
