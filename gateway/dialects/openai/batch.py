"""vLLM-Omni's `POST /v1/audio/speech/batch`: up to 32 texts in, all their sound at once out, in JSON."""

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
from gateway.api.job_fields import KEY, Coded, JobOptions, Model, Speed, Voice, idempotent_id
from gateway.codecs import Format
from gateway.dialects.openai.request import API, Speech, Usage, VoiceRef, order, usage
from gateway.http.bodies import Body
from gateway.http.caching import wants_fresh
from gateway.http.operation import Answer, operation
from gateway.http.problems import JOB_HEADER
from gateway.http.responses import json_response
from gateway.http.services import JOBS
from gateway.jobs.listening import open_stream
from gateway.jobs.service import Jobs
from gateway.streaming.whole import encoding_of, held_back

MAX_ITEMS: Final = 32
#: Of PCM, one item: an answer is held in memory until its last item is there.
MAX_ITEM_BYTES: Final = 4 << 20
_DEFAULT_FORMAT: Final = "wav"


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """What is None is as the batch says."""

    input: str
    model: Model | None = None
    voice: Voice | VoiceRef | None = None
    response_format: Coded | None = None
    speed: Speed | None = None
    instructions: str | None = None
    params: dict[str, Any] | None = None
    seed: int | None = None


class Batch(JobOptions, frozen=True, kw_only=True):
    """Defaults of the items, and the items."""

    items: Annotated[list[Item], Meta(min_length=1, max_length=MAX_ITEMS)]
    model: Model = ""
    voice: Voice | VoiceRef | None = None
    response_format: Coded | None = None
    speed: Speed | None = None
    instructions: str | None = None

    def speech(self, item: Item) -> Speech:
        """The request that `item` is."""
        fields = {name: value for name, value in msgspec.structs.asdict(self).items() if name != "items"}
        fields |= {name: value for name, value in msgspec.structs.asdict(item).items() if value is not None}
        return Speech(**{**fields, "response_format": fields["response_format"] or _DEFAULT_FORMAT})


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of one item."""

    index: int
    status: Literal["success", "error"]
    #: Base64.
    audio_data: str = ""
    media_type: str = ""
    usage: Usage | None = None
    error: str = ""
    #: Its job's id, if it came so far.
    job: str = ""


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """By the items' order."""

    id: str
    results: list[Result]
    total: int
    succeeded: int
    failed: int


_body: Final = Body(Batch)


@operation(
    "Up to 32 texts at once, their sound in JSON.",
    body=Batch,
    parameters=(KEY,),
    answers={200: Answer("What became of each item, in their order.", Results)},
)
async def batch(request: web.Request) -> web.Response:
    """Answer once every item is done or has failed. Hanging up is leaving all of them.

    Raises NoWorker if nobody is there for any of them; what is wrong with one item is that item's error.
    """
    data = await request.read()
    asked = _body.read(data)
    key = idempotent_id(request, API)
    ordered = [_ordered(request, asked, index, key) for index in range(len(asked.items))]
    async with asyncio.TaskGroup() as tasks:
        asking = [tasks.create_task(_result(request, index, each)) for index, each in enumerate(ordered)]
    results = [each.result() for each in asking]
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


def _ordered(request: web.Request, asked: Batch, index: int, key: str) -> tuple[wire.Job, Format] | JobError:
    job_id = keyed_id(API, f"{key}-{index}") if key else ""
    speech = asked.speech(asked.items[index])
    try:
        return order(request, speech, len(speech.input.encode()), job_id)
    except NoWorker:
        raise
    except JobError as error:
        return error


async def _result(request: web.Request, index: int, ordered: tuple[wire.Job, Format] | JobError) -> Result:
    if isinstance(ordered, JobError):
        return Result(index=index, status="error", error=str(ordered))
    job, form = ordered
    try:
        data, used, job_id = await _encoded(request.app[JOBS], job, form, fresh=wants_fresh(request))
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


async def _encoded(jobs: Jobs, job: wire.Job, form: Format, *, fresh: bool) -> tuple[bytes, Usage, str]:
    """The job's whole audio, encoded, its usage, and the id of the job that was streamed.

    Raises the JobError it ended with, Invalid if it is too much, Unreachable.
    """
    async with open_stream(jobs, job, fresh=fresh) as stream, aclosing(aiter(stream)) as pieces:
        held = await held_back(pieces, MAX_ITEM_BYTES)
        if not stream.is_whole or len(held) > MAX_ITEM_BYTES:
            raise Invalid(f"input: makes more than {MAX_ITEM_BYTES} bytes of PCM, the limit of a batch", "input")
        with closing(encoding_of(stream, form, len(held))) as encoding:
            data = await encoding.feed(held) + await encoding.finish()
    return data, usage(stream.job, stream.done), stream.key.job


ROUTES: Final[Sequence[web.RouteDef]] = (web.post("/v1/audio/speech/batch", batch),)
