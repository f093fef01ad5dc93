"""Blobs: bytes that a client puts once and names in jobs by their SHA-256."""

import asyncio
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Annotated, Final

import msgspec
from aiohttp import hdrs, web
from msgspec import Meta

from bus.blobs.blob import CHUNK_BYTES, Blob
from bus.blobs.reading import BlobDamaged, read_blob
from bus.blobs.retention import BlobRetention
from bus.blobs.store import BlobStore
from bus.blobs.upload import MAX_PAUSE_S, Upload, uploading
from bus.blobs.uploaded import UploadedVoices
from bus.errors import Conflict, Invalid, LogDamaged, TooLarge
from bus.jobs.client import Bus
from bus.telemetry.logging import logger
from gateway.access.caller import caller
from gateway.http.connection import Connection
from gateway.http.operation import Answer, Parameter, operation
from gateway.http.reading import TooSlow
from gateway.http.responses import begin, json_response
from gateway.http.services import BUFFERS
from gateway.jobs.view import when
from gateway.limits.blob_room import BlobRoom, Place
from gateway.settings import GatewaySettings

log = logger(__name__)

#: Room that a body without a `Content-Length` reserves at a time.
_STEP_BYTES: Final = 32 * CHUNK_BYTES
#: Memory of one upload or download: pieces that wait, and a chunk on its way to the bus.
_BUFFER_BYTES: Final = 4 * CHUNK_BYTES
_BYTES: Final = ("application/octet-stream",)
_DIGEST: Final = Parameter(
    "digest", Annotated[str, Meta(pattern="^[0-9a-f]{64}$")], "SHA-256 of the bytes, in hexadecimal.", where="path"
)


class ShownBlob(msgspec.Struct, frozen=True):
    """A blob of the caller's."""

    digest: str
    bytes: int
    #: It stays until then at least; a job that names it keeps it until its own deadline.
    expires_at: str

    @classmethod
    def of(cls, blob: Blob) -> "ShownBlob":
        """The blob as a client sees it."""
        return cls(blob.digest, blob.num_bytes, when(blob.ends_at))


class BlobApi:
    """The services of the handlers here, and their limits."""

    def __init__(self, bus: Bus, settings: GatewaySettings) -> None:
        self.bus = bus
        self.store = BlobStore(bus)
        self.room = BlobRoom(self.store, bus.settings.blobs_max_bytes)
        #: A clip goes with its voice.
        self.uploaded = UploadedVoices(bus)
        #: Runs beside the handlers.
        self.retention = BlobRetention(bus, self.uploaded)
        self.max_bytes = settings.max_blob_bytes
        self.keep_s = settings.blob_keep_s

    def check_size(self, num_bytes: int, whose: str) -> None:
        """Raises TooLarge for a body of so many bytes, or of more."""
        if num_bytes > self.max_bytes:
            raise TooLarge(
                f"body: the blob of tenant {whose} has {num_bytes} bytes or more, the limit of one blob is "
                f"{self.max_bytes} (--max-blob-bytes)",
                "body",
            )


BLOBS: Final = web.AppKey("blobs", BlobApi)


@operation(
    "Store bytes that jobs can name in `inputs`.",
    text="The body is stored as it comes, under its SHA-256. Only its tenant can read it or name it.",
    body=bytes,
    body_media=_BYTES,
    answers={
        201: Answer("It is stored, and durable.", ShownBlob),
        200: Answer("The tenant had put the same bytes; they stay for longer.", ShownBlob),
    },
)
async def put(request: web.Request) -> web.Response:
    """`PUT /v1/blobs`. A client that leaves half way leaves nothing behind.

    Raises TooLarge, TooMany, StorageFull, Invalid for an empty body, TooSlow.
    """
    api, owner = request.app[BLOBS], caller(request)
    api.check_size(request.content_length or 0, owner.tenant)
    with request.app[BUFFERS].hold(owner.owner) as buffer, api.room.place(owner.tenant) as place:
        await buffer.grow(_BUFFER_BYTES)
        if isinstance(request.protocol, Connection):
            request.protocol.stream_body()
        await place.grow(request.content_length or _STEP_BYTES)
        async with uploading(api.bus, api.store, owner.tenant) as upload:
            await _receive(request, upload, place)
            blob, is_new = await upload.commit(api.bus.clock.now() + api.keep_s)
    log.info("blob.stored", digest=blob.digest, bytes=blob.num_bytes, is_new=is_new, tenant=blob.owner)
    return json_response(ShownBlob.of(blob), 201 if is_new else 200, {"Location": f"/v1/blobs/{blob.digest}"})


async def _receive(request: web.Request, upload: Upload, place: Place) -> None:
    """Store the body, within the limits."""
    api, whose = request.app[BLOBS], caller(request).tenant
    while True:
        try:
            async with asyncio.timeout(MAX_PAUSE_S):
                piece = await request.content.read(CHUNK_BYTES)
        except TimeoutError:
            raise TooSlow(f"the body: no byte came for {MAX_PAUSE_S:g} s, after {upload.num_bytes}") from None
        if not piece:
            break
        api.check_size(upload.num_bytes + len(piece), whose)
        # The rest of a chunk waits in the upload: it needs its room as well.
        if upload.num_bytes + len(piece) > (upload.num_chunks + place.num_chunks) * CHUNK_BYTES:
            await place.grow(_STEP_BYTES)
        before = upload.num_chunks
        await upload.write(piece)
        place.stored(upload.num_chunks - before)
    if not upload.num_bytes:
        raise Invalid("body: is empty (0 bytes), there is nothing to store", "body")


@operation(
    "The bytes of a blob.",
    text="`HEAD` answers its length alone.",
    parameters=(_DIGEST,),
    answers={200: Answer("The bytes, checked against the digest.", bytes, _BYTES)},
)
async def show(request: web.Request) -> web.StreamResponse:
    """`GET` and `HEAD /v1/blobs/{digest}`. Raises NotFound."""
    api, owner = request.app[BLOBS], caller(request)
    blob = (await api.store.get(owner.tenant, request.match_info["digest"])).blob
    response = web.StreamResponse(
        headers={
            hdrs.CONTENT_TYPE: _BYTES[0],
            hdrs.CONTENT_LENGTH: str(blob.num_bytes),
            hdrs.ETAG: f'"{blob.digest}"',
            hdrs.EXPIRES: format_datetime(datetime.fromtimestamp(blob.ends_at, UTC), usegmt=True),
            "X-Content-Type-Options": "nosniff",
        }
    )
    if request.method == hdrs.METH_HEAD:
        await begin(request, response)
        return response
    with request.app[BUFFERS].hold(owner.owner) as buffer:
        await buffer.grow(_BUFFER_BYTES)
        try:
            async for piece in read_blob(api.bus, blob):
                if not response.prepared:
                    await begin(request, response)
                await response.write(piece)
        except BlobDamaged as error:
            log.error("blob.damaged", digest=blob.digest, error=str(error))
            raise LogDamaged(str(error)) from error
    return response


@operation(
    "Remove a blob before its time.",
    parameters=(_DIGEST,),
    answers={204: Answer("It is gone."), 409: Answer("An accepted job names it, or a voice has it.")},
)
async def delete(request: web.Request) -> web.Response:
    """`DELETE /v1/blobs/{digest}`. Raises NotFound; Conflict while a voice or an accepted job has it."""
    api, tenant = request.app[BLOBS], caller(request).tenant
    if api.uploaded.names(tenant, request.match_info["digest"]):
        error = Conflict(f"digest: a voice of {tenant} has it; DELETE /v1/audio/voices/… removes both")
        error.path = "digest"
        raise error
    await api.store.delete(tenant, request.match_info["digest"], api.bus.clock.now())
    return web.Response(status=204)
