"""vLLM-Omni's `POST /v1/audio/speech/batch`: up to 32 texts in one request, their audio in one JSON response."""

import asyncio
import contextlib
import uuid
from base64 import b64encode
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing, closing
from typing import Annotated, Any, Final, Literal, NamedTuple

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
from gateway.http.operation import JSON, Answer, operation
from gateway.http.responses import begin
from gateway.http.services import BUFFERS, JOBS
from gateway.jobs.listening import open_stream
from gateway.limits.buffers import Buffer
from gateway.streaming.whole import encoded, encoding_for, write_held

MAX_ITEMS: Final = 32
#: Bytes of PCM of one item: the response stays in memory until its last item is complete.
MAX_ITEM_BYTES: Final = 4 << 20
_DEFAULT_FORMAT: Final = "wav"
#: The place of the results in the JSON of a response without any, and what stands there in one that has some.
_NO_RESULTS: Final = b'"results":[]'
_RESULTS: Final = b'"results":['


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
async def batch(request: web.Request) -> web.StreamResponse:
    """`POST /v1/audio/speech/batch`: responds once every item is done or has failed.

    A client that hangs up leaves all jobs. Raises NoWorker if no worker is there for an item; any other error of an
    item is its result.
    """
    data = await request.read()
    body = BATCH.read(data)
    key = idempotent_id(request, API)
    items = [_item_job(request, body, index, key) for index in range(len(body.items))]
    with contextlib.ExitStack() as stack:
        owner = caller(request).owner
        buffers = [stack.enter_context(request.app[BUFFERS].hold(owner)) for _ in items]
        return await _respond(request, key, await _results(request, items, buffers), buffers)


class _Ready(NamedTuple):
    """The result of one item: the id of its job, whether it has audio, and its JSON."""

    job: str
    is_success: bool
    data: bytes

    @classmethod
    def of(cls, result: Result, buffer: Buffer) -> "_Ready":
        """`buffer` then holds its JSON instead of the audio."""
        held_bytes = buffer.num_bytes
        data = msgspec.json.encode(result)
        buffer.add(len(data))
        buffer.shrink(held_bytes)
        return cls(result.job, result.status == "success", data)


async def _results(
    request: web.Request, items: list[tuple[wire.Job, Format] | JobError], buffers: list[Buffer]
) -> list[_Ready]:
    """The result of each item, once all are there."""
    running: list[asyncio.Task[_Ready]] = []
    try:
        async with asyncio.TaskGroup() as tasks:
            for index, (item, buffer) in enumerate(zip(items, buffers, strict=True)):
                if index:  # the first one was counted with the request
                    await wait_to_count(request)
                running.append(tasks.create_task(_result(request, index, item, buffer)))
        return [each.result() for each in running]
    finally:
        running.clear()  # if cancelled, this frame is part of a cycle of references, which lives for a while


async def _respond(request: web.Request, key: str, ready: list[_Ready], buffers: list[Buffer]) -> web.StreamResponse:
    """Respond with `Results`, result by result: each leaves its buffer once it is written."""
    total, succeeded = len(ready), sum(each.is_success for each in ready)
    shown = Results(
        id=f"speech-batch-{key or uuid.uuid4().hex}",
        results=[],
        total=total,
        succeeded=succeeded,
        failed=total - succeeded,
    )
    head, tail = msgspec.json.encode(shown).split(_NO_RESULTS, 1)
    jobs = ", ".join(each.job for each in ready if each.job)
    response = web.StreamResponse(headers={"Content-Type": JSON[0], JOB_HEADER: jobs})
    response.content_length = sum(len(each.data) for each in ready) + len(head + _RESULTS + b"]" + tail) + total - 1
    await begin(request, response)
    before = head + _RESULTS
    while ready:
        await response.write(before)
        before = b","
        await write_held(response, deque([ready.pop(0).data]), buffers.pop(0))
    await response.write_eof(b"]" + tail)
    return response


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


async def _result(
    request: web.Request, index: int, job_or_error: tuple[wire.Job, Format] | JobError, buffer: Buffer
) -> _Ready:
    """Run the job of one item to its end. `buffer` holds its audio meanwhile, and then its result."""
    if isinstance(job_or_error, JobError):
        return _Ready.of(Result(index=index, status="error", error=str(job_or_error)), buffer)
    job, form = job_or_error
    try:
        data, used, job_id = await _encoded(request, job, form, buffer)
        await buffer.grow(len(data) // 3)  # base64
    except BusError as error:
        return _Ready.of(Result(index=index, status="error", error=str(error), job=job.id), buffer)
    audio = b64encode(data).decode()
    result = Result(
        index=index, status="success", audio_data=audio, media_type=form.content_type, usage=used, job=job_id
    )
    return _Ready.of(result, buffer)


async def _encoded(request: web.Request, job: wire.Job, form: Format, buffer: Buffer) -> tuple[bytes, Usage, str]:
    """The job's whole audio, encoded, its usage, and the id of the job that was streamed. `buffer` holds the audio.

    Raises the JobError it ended with, Invalid for more than MAX_ITEM_BYTES of PCM, Unreachable; TooMany, Overloaded if
    the audio does not fit into the buffer.
    """
    fresh = wants_fresh(request)
    pcm: deque[bytes] = deque()
    parts: list[bytes] = []
    try:
        async with open_stream(request.app[JOBS], job, fresh=fresh) as stream, aclosing(aiter(stream)) as pieces:
            async for piece in pieces:
                await buffer.grow(len(piece))
                pcm.append(piece)
                if buffer.num_bytes > MAX_ITEM_BYTES:
                    limit = f"{MAX_ITEM_BYTES} bytes of PCM, the limit of a batch"
                    raise Invalid(f"input: makes more than {limit}", "input")
            with closing(encoding_for(stream, form, buffer.num_bytes, caller(request))) as encoding:
                async for part in encoded(pcm, pieces, encoding, buffer):
                    await buffer.grow(len(part))
                    parts.append(part)
        return b"".join(parts), usage(stream.job, stream.done), stream.key.job
    finally:
        # As above: the memory must be free once the buffer says so.
        pcm.clear()
        parts.clear()


ROUTES: Final[Sequence[web.RouteDef]] = (web.post("/v1/audio/speech/batch", batch),)
