"""Voices as a resource: OpenAI's and vLLM-Omni's fields, in one answer."""

from typing import Annotated, Any, Final

import msgspec
from aiohttp import hdrs, web
from msgspec import Meta

from bus.blobs.reading import BlobDamaged, read_blob
from bus.blobs.uploaded import UploadedVoice
from bus.errors import LogDamaged
from bus.fleet.messages import Voice
from bus.options import schema
from gateway.access.caller import caller
from gateway.api.blobs import BLOBS
from gateway.api.models import family
from gateway.api.voice_uploads import FILES, form_of, store
from gateway.http.operation import Answer, Parameter, operation
from gateway.http.responses import begin, json_response
from gateway.http.services import BUFFERS, VOICES
from gateway.jobs.validation import DEFAULT_MODEL
from gateway.voices.naming import MAX_NAME_CHARS, MAX_TEXT_CHARS
from gateway.voices.uploads import NewVoice

_FIELD: Final = "audio_sample"
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_PIECES_BYTES: Final = 2 << 20
_ID: Final = Parameter("id", str, "Its id, or its name.", where="path", required=True)


class VoiceForm(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of an upload."""

    name: Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS)]
    audio_sample: Annotated[
        bytes, schema("WAV, MP3, FLAC, Ogg, AAC, WebM or MP4 with one stream of sound, 1 to 120 s of one speaker.")
    ]
    consent: Annotated[str, schema("The speaker's agreement, in words.")] = ""
    ref_text: Annotated[str, Meta(max_length=MAX_TEXT_CHARS), schema("What is said in the clip.")] = ""
    speaker_description: Annotated[str, Meta(max_length=MAX_TEXT_CHARS)] = ""
    replace: Annotated[bool, schema("Take the place of the voice of this name.")] = False


class ShownUpload(msgspec.Struct, frozen=True, kw_only=True):
    """An uploaded voice, with vLLM-Omni's fields."""

    id: str
    name: str
    object: str = "audio.voice"
    consent: str
    created_at: int
    mime_type: str
    file_size: int
    ref_text: str | None
    speaker_description: str | None
    duration_s: float
    rate_hz: int
    #: SHA-256 of the clip.
    digest: str
    #: `quiet`, `clipped`.
    warnings: list[str]

    @classmethod
    def of(cls, voice: UploadedVoice) -> "ShownUpload":
        """The voice as its tenant sees it."""
        return cls(
            id=voice.id,
            name=voice.name,
            consent=voice.consent,
            created_at=int(voice.created_at),
            mime_type=voice.mime_type,
            file_size=voice.file_bytes,
            ref_text=voice.ref_text or None,
            speaker_description=voice.description or None,
            duration_s=voice.seconds,
            rate_hz=voice.rate_hz,
            digest=voice.digest,
            warnings=voice.warnings,
        )


class CreatedVoice(ShownUpload, frozen=True, kw_only=True):
    """OpenAI's answer to an upload, with vLLM-Omni's in it."""

    type: str = "audio_sample"
    success: bool = True
    voice: ShownUpload


class VoiceList(msgspec.Struct, frozen=True, kw_only=True):
    """Kokoro's list of voices, vLLM-Omni's of the caller's uploaded ones, and OpenAI's of those."""

    voices: list[Voice]
    uploaded_voices: list[ShownUpload]
    object: str = "list"
    data: list[ShownUpload]


class DeletedVoice(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's and vLLM-Omni's answers to a deletion."""

    id: str
    object: str = "audio.voice.deleted"
    deleted: bool = True
    success: bool = True
    message: str


def _created(voice: UploadedVoice) -> CreatedVoice:
    shown = ShownUpload.of(voice)
    return CreatedVoice(voice=shown, **msgspec.structs.asdict(shown))


@operation(
    "Upload a voice.",
    text="A clip of one speaker; jobs of a model whose card has the input `reference` speak with it. The same upload "
    "again changes nothing.",
    body=VoiceForm,
    body_media=FILES,
    answers={200: Answer("The voice, which jobs name by its id or its name.", CreatedVoice)},
)
async def create(request: web.Request) -> web.Response:
    """`POST /v1/audio/voices`. Raises as `VoiceUploads.add` does."""
    async with form_of(request, _FIELD) as form:
        fields = form.fields
        new = NewVoice(
            name=fields.get("name", ""),
            data=form.file.data,
            field=_FIELD,
            mime_type=form.file.mime_type,
            consent=fields.get("consent", ""),
            ref_text=fields.get("ref_text", ""),
            description=fields.get("speaker_description", ""),
            replaces=fields.get("replace", "").lower() in _TRUE,
        )
        voice = await store(request, new)
    return json_response(_created(voice), headers={"Location": f"/v1/audio/voices/{voice.id}"})


@operation(
    "List the voices of a model, and the caller's uploaded ones.",
    parameters=(Parameter("model", str, "A model's name; default `speech`."),),
    answers={200: Answer("Each `id` is a value for `voice`.", VoiceList)},
    is_list=True,
)
async def index(request: web.Request) -> web.Response:
    """`GET /v1/audio/voices?model=`. Callers without a key see no uploaded voice but those of `public`."""
    uploads = request.app[VOICES]
    await uploads.voices.refresh()
    cards = family(request, request.query.get("model", DEFAULT_MODEL))
    own = [ShownUpload.of(voice) for voice in uploads.voices.of(caller(request).tenant)]
    voices = [voice for card in cards for voice in card.voices]
    return json_response(VoiceList(voices=voices, uploaded_voices=own, data=own))


@operation("Show an uploaded voice.", parameters=(_ID,), answers={200: Answer("The voice.", CreatedVoice)})
async def show(request: web.Request) -> web.Response:
    """`GET /v1/audio/voices/{id}`. Raises NotFound, for a voice of another tenant too."""
    voice = await request.app[VOICES].voices.get(caller(request).tenant, request.match_info["id"])
    return json_response(_created(voice))


@operation(
    "The clip of an uploaded voice, as it is stored.",
    parameters=(_ID,),
    answers={200: Answer("WAV, mono, 16 bit, 24 kHz.", bytes, ("audio/wav",))},
)
async def sample(request: web.Request) -> web.StreamResponse:
    """`GET /v1/audio/voices/{id}/sample`. Raises NotFound, LogDamaged."""
    owner, api = caller(request), request.app[BLOBS]
    voice = await request.app[VOICES].voices.get(owner.tenant, request.match_info["id"])
    blob = (await api.store.get(owner.tenant, voice.digest)).blob
    headers: dict[str, Any] = {
        hdrs.CONTENT_TYPE: "audio/wav",
        hdrs.CONTENT_LENGTH: str(blob.num_bytes),
        hdrs.CACHE_CONTROL: "private, no-store",
        "X-Content-Type-Options": "nosniff",
    }
    response = web.StreamResponse(headers=headers)
    with request.app[BUFFERS].hold(owner.owner) as buffer:
        await buffer.grow(_PIECES_BYTES)
        try:
            async for piece in read_blob(api.bus, blob):
                if not response.prepared:
                    await begin(request, response)
                await response.write(piece)
        except BlobDamaged as error:
            raise LogDamaged(str(error)) from error
    return response


@operation(
    "Delete an uploaded voice.",
    text="Its clip is erased. Jobs that were accepted with it and have not begun fail with `voice_gone`.",
    parameters=(_ID,),
    answers={200: Answer("It is gone.", DeletedVoice)},
)
async def delete(request: web.Request) -> web.Response:
    """`DELETE /v1/audio/voices/{id}`. Raises NotFound, the second time too."""
    voice = await request.app[VOICES].delete(caller(request).tenant, request.match_info["id"])
    return json_response(DeletedVoice(id=voice.id, message=f"Voice {voice.name!r} deleted"))


_PATH: Final = "/v1/audio/voices"
ROUTES: Final = (
    web.get(_PATH, index),
    web.post(_PATH, create),
    web.get(f"{_PATH}/{{id}}", show, allow_head=False),
    web.get(f"{_PATH}/{{id}}/sample", sample, allow_head=False),
    web.delete(f"{_PATH}/{{id}}", delete),
)
