"""Plain paths for scripts of a few lines: a prompt and a duration in, a file or its chunks out."""

from contextlib import aclosing
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web

from bus import wire
from bus.errors import Invalid
from bus.fleet.messages import ModelCard
from bus.options import schema
from bus.wire import State
from gateway.api import audio
from gateway.api.job_fields import KEY, JobOptions, Model, Text, Voice, build_job, our_model
from gateway.http.bodies import Body
from gateway.http.dialect import Dialect
from gateway.http.headers import JOB_HEADER, voice_headers
from gateway.http.operation import AUDIO, Answer, Parameter, operation
from gateway.http.problems import BlockNotYet, NoSuchBlock, respond
from gateway.http.responses import JOB, json_response
from gateway.http.services import JOBS, job_key
from gateway.jobs.pcm_reader import failure
from gateway.streaming.live import stream_for

_API: Final = "plain"
_DEFAULT_MODEL: Final = "music"


class PromptRequest(JobOptions, frozen=True, kw_only=True):
    """A prompt, and options. Unknown fields are ignored."""

    prompt: Text
    duration: Annotated[float, schema("Seconds; null: the model's default.")] | None = None
    model: Model = _DEFAULT_MODEL
    voice: Voice = ""


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """A finished file."""

    id: str
    status: str
    url: str
    #: Seconds.
    duration: float
    #: Hz.
    sample_rate: int
    channels: int


class Task(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The state of a task."""

    task_id: str
    status: State
    #: Chunks made so far.
    chunks: int = 0


PROMPT: Final = Body(PromptRequest)


@operation(
    "Generate music or any other audio as a file.",
    text="Responds once the file is complete. A client that hangs up cancels the job.",
    body=PromptRequest,
    parameters=(KEY,),
    answers={200: Answer("The file's URL and properties.", Output)},
)
async def generate(request: web.Request) -> web.Response:
    """`POST /generate`: responds once the file is complete. A client that hangs up leaves the job."""
    job = await _read_job(request, streams=True)
    async with stream_for(request, job, own_id=True) as stream:
        async with aclosing(aiter(stream)) as pieces:
            async for _ in pieces:
                continue  # a download reads the file from the log
        job_id = stream.key.job
        voice = voice_headers(stream.job)
        done = stream.done
        rate_hz, channels = stream.media
    url = f"/output/{job_id}.wav"
    output = Output(id=job_id, status="done", url=url, duration=done.seconds, sample_rate=rate_hz, channels=channels)
    return json_response(output, headers={JOB_HEADER: job_id, "Location": url, **voice})


@operation(
    "Generate music or any other audio in the background.",
    text="Responds at once. The job runs on without listeners.",
    body=PromptRequest,
    parameters=(KEY,),
    answers={200: Answer("The task, whose chunks and file can be requested from now on.", Task)},
)
async def start(request: web.Request) -> web.Response:
    """`POST /api/generate`: responds as soon as the job is accepted; the job runs on without listeners."""
    jobs = request.app[JOBS]
    job = await _read_job(request, streams=False)
    request[JOB] = job.id
    accepted = await jobs.accept(job)
    status = State.QUEUED if accepted.is_new else (await jobs.find(jobs.key(job.tenant, job.id))).state
    return json_response(
        Task(task_id=job.id, status=status), headers={JOB_HEADER: job.id, **voice_headers(accepted.job)}
    )


@operation(
    "Get one chunk of a task's audio.",
    parameters=(Parameter("n", int, "The chunk's number, from 0.", "path", required=True),),
    answers={
        200: Answer("The chunk as a WAV file.", media=AUDIO),
        202: Answer("The chunk may still be made: try again.", Task),
    },
)
async def chunk(request: web.Request) -> web.Response:
    """`GET /api/chunk/{id}/{n}`: one block as a WAV file; 202 while it may still be made.

    Raises NoSuchBlock after the last block of a job that is done, and for any other job that has ended its error.
    """
    try:
        return await audio.block(request)
    except (BlockNotYet, NoSuchBlock):
        found = await request.app[JOBS].find(job_key(request))
    blocks = found.position.block
    if int(request.match_info["n"]) < blocks:  # it was made between the two reads
        return await audio.block(request)
    if found.state is State.DONE:
        raise NoSuchBlock(f"n: the task is done and has {blocks} chunks, the last is {blocks - 1}")
    if found.is_ended:
        assert found.tail is not None
        raise failure(found.tail)
    job_id = found.birth.job.id
    task = Task(task_id=job_id, status=found.state, chunks=blocks)
    return json_response(task, 202, {JOB_HEADER: job_id, "Retry-After": "1"})


async def _read_job(request: web.Request, *, streams: bool) -> wire.Job:
    """The request's validated job. Raises as `Validation.complete` does, with the names of this API's fields."""
    data = await request.read()
    body = PROMPT.read(data)
    jobs = request.app[JOBS]
    model = our_model(request, body.model, default=_DEFAULT_MODEL, version=body.version)
    card = jobs.card(model.model, model.version)
    job = build_job(
        request,
        _API,
        body,
        model,
        input=body.prompt,
        voice=body.voice,
        params=_params(body, card),
    )
    try:
        return jobs.validate(job, streams=streams, size_hint_bytes=len(data))
    except Invalid as error:
        raise _renamed(error, body) from error


def _params(body: PromptRequest, card: ModelCard) -> dict[str, Any]:
    """The engine's params, with the duration. Raises Invalid if the engine takes none."""
    if body.duration is None:
        return body.params
    if "seconds" not in card.param_schema.get("properties", {}):
        raise Invalid(f"duration: {card.name} takes no duration, its input determines it", "duration")
    return {"seconds": body.duration, **body.params}


def _renamed(error: Invalid, body: PromptRequest) -> Invalid:
    """`error` with the name of this API's field."""
    names = {"input": "prompt"} | ({} if body.duration is None else {"params.seconds": "duration"})
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
