"""vLLM-Omni's `POST /v1/audio/speech/batch`: up to 32 texts in one request, their audio in one JSON response."""

import asyncio
import uuid
from base64 import b64encode
from collections.abc import Sequence
from contextlib import aclosing, closing
from typing import Annotated, Any, Final, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from bus import wire
from bus.errors import BusError, Invalid, JobError, NoWorker
from bus.jobs.submit import keyed_id
from gateway.access.caller import caller
from gateway.api.job_fields import KEY, Coded, JobOptions, Model, SampleRate, Speed, Voice, idempotent_id
from gateway.codecs import Format
from gateway.dialects.openai.request import API, SpeechRequest, Usage, VoiceRef, build_speech_job, usage
from gateway.http.bodies import Body
from gateway.http.counting import wait_to_count
from gateway.http.headers import JOB_HEADER, wants_fresh
from gateway.http.operation import Answer, operation
from gateway.http.responses import json_response
from gateway.http.services import JOBS
from gateway.jobs.listening import open_stream
from gateway.streaming.whole import encoding_for, read_up_to

MAX_ITEMS: Final = 32
#: Bytes of PCM of one item: the response stays in memory until its last item is complete.
MAX_ITEM_BYTES: Final = 4 << 20
_DEFAULT_FORMAT: Final = "wav"


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One text. A field that is null has the value of the batch."""

    input: str
    model: Model | None = None
    voice: Voice | VoiceRef | None = None
    response_format: Coded | None = None
    speed: Speed | None = None
    sample_rate: SampleRate | None = None
    instructions: str | None = None
    params: dict[str, Any] | None = None
    seed: int | None = None


class Batch(JobOptions, frozen=True, kw_only=True):
    """The items, and the defaults of their fields."""

    items: Annotated[list[Item], Meta(min_length=1, max_length=MAX_ITEMS)]
    model: Model = ""
    voice: Voice | VoiceRef | None = None
    response_format: Coded | None = None
    speed: Speed | None = None
    sample_rate: SampleRate | None = None
    instructions: str | None = None

    def speech_request(self, item: Item) -> SpeechRequest:
        """`item` as a request of its own."""
        fields = {name: value for name, value in msgspec.structs.asdict(self).items() if name != "items"}
        fields |= {name: value for name, value in msgspec.structs.asdict(item).items() if value is not None}
        return SpeechRequest(**{**fields, "response_format": fields["response_format"] or _DEFAULT_FORMAT})


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of one item."""

    index: int
    status: Literal["success", "error"]
    #: Base64.
    audio_data: str = ""
    media_type: str = ""
    usage: Usage | None = None
    error: str = ""
    #: The id of the item's job; absent if the item was refused.
    job: str = ""


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """The response: a result for each item, in their order."""

    id: str
    results: list[Result]
    total: int
    succeeded: int
    failed: int


BATCH: Final = Body(Batch)


@operation(
    "Generate speech for up to 32 texts, in one JSON response.",
    text="Each text counts as a request; those beyond a limit of requests per second wait for it.",
    body=Batch,
    parameters=(KEY,),
    answers={200: Answer("A result for each item, in their order.", Results)},
)
async def batch(request: web.Request) -> web.Response:
    """`POST /v1/audio/speech/batch`: responds once every item is done or has failed.

    A client that hangs up leaves all jobs. Raises NoWorker if no worker is there for an item; any other error of an
    item is its result.
    """
    data = await request.read()
    body = BATCH.read(data)
    key = idempotent_id(request, API)
    jobs = [_item_job(request, body, index, key) for index in range(len(body.items))]
    async with asyncio.TaskGroup() as tasks:
        running = []
        for index, each in enumerate(jobs):
            if index:  # the first one was counted with the request
                await wait_to_count(request)
            running.append(tasks.create_task(_result(request, index, each)))
    results = [each.result() for each in running]
    succeeded = sum(result.status == "success" for result in results)
    return json_response(
        Results(
            id=f"speech-batch-{key or uuid.uuid4().hex}",
            results=results,
            total=len(results),
            succeeded=succeeded,
            failed=len(results) - succeeded,
        ),
        headers={JOB_HEADER: ", ".join(each.job for each in results if each.job)},
    )


def _item_job(request: web.Request, body: Batch, index: int, key: str) -> tuple[wire.Job, Format] | JobError:
    """The job of an item and its format, or the error for which the item is refused. Raises NoWorker."""
    job_id = keyed_id(API, f"{key}-{index}") if key else ""
    item = body.speech_request(body.items[index])
    try:
        return build_speech_job(request, item, len(item.input.encode()), job_id)
    except NoWorker:
        raise
    except JobError as error:
        return error


async def _result(request: web.Request, index: int, job_or_error: tuple[wire.Job, Format] | JobError) -> Result:
    """Run the job of one item to its end."""
    if isinstance(job_or_error, JobError):
        return Result(index=index, status="error", error=str(job_or_error))
    job, form = job_or_error
    try:
        data, used, job_id = await _encoded(request, job, form)
    except BusError as error:
        return Result(index=index, status="error", error=str(error), job=job.id)
    return Result(
        index=index,
        status="success",
        audio_data=b64encode(data).decode(),
        media_type=form.content_type,
        usage=used,
        job=job_id,
    )


async def _encoded(request: web.Request, job: wire.Job, form: Format) -> tuple[bytes, Usage, str]:
    """The job's whole audio, encoded, its usage, and the id of the job that was streamed.

    Raises the JobError it ended with, Invalid for more than MAX_ITEM_BYTES of PCM, Unreachable.
    """
    jobs, fresh = request.app[JOBS], wants_fresh(request)
    async with open_stream(jobs, job, fresh=fresh) as stream, aclosing(aiter(stream)) as pieces:
        held = await read_up_to(pieces, MAX_ITEM_BYTES)
        if not stream.is_whole or len(held) > MAX_ITEM_BYTES:
            raise Invalid(f"input: makes more than {MAX_ITEM_BYTES} bytes of PCM, the limit of a batch", "input")
        with closing(encoding_for(stream, form, len(held), caller(request))) as encoding:
            data = await encoding.feed(held) + await encoding.finish()
    return data, usage(stream.job, stream.done), stream.key.job


ROUTES: Final[Sequence[web.RouteDef]] = (web.post("/v1/audio/speech/batch", batch),)
