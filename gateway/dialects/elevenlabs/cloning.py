"""ElevenLabs' instant voice cloning: `POST /v1/voices/add` and `DELETE /v1/voices/{voice_id}`."""

from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from bus.errors import Invalid
from bus.options import schema
from gateway.access.caller import caller
from gateway.api.voice_uploads import FILES, form_of, store
from gateway.http.operation import Answer, Parameter, operation
from gateway.http.responses import json_response
from gateway.http.services import VOICES
from gateway.voices.naming import MAX_NAME_CHARS
from gateway.voices.uploads import NewVoice

_FIELD: Final = "files"
_FALSE: Final = frozenset({"", "false", "0"})


class AddForm(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of ElevenLabs' form, and ours."""

    name: Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS)]
    files: Annotated[list[bytes], Meta(min_length=1, max_length=1), schema("One clip.")]
    description: str = ""
    labels: Annotated[str, schema("Ignored.")] = ""
    remove_background_noise: Annotated[bool, schema("Only false.", enum=[False])] = False
    consent: Annotated[str, schema("Ours: the speaker's agreement, in words.")] = ""


class AddedVoice(msgspec.Struct, frozen=True):
    """The answer to an upload."""

    voice_id: str
    requires_verification: bool = False


class Status(msgspec.Struct, frozen=True):
    """The answer to a deletion."""

    status: str = "ok"


@operation(
    "Clone a voice from a clip.",
    body=AddForm,
    body_media=FILES,
    answers={200: Answer("Its id is a `voice_id`.", AddedVoice)},
)
async def add(request: web.Request) -> web.Response:
    """`POST /v1/voices/add`. Raises as `VoiceUploads.add` does; Invalid for a second clip."""
    async with form_of(request, _FIELD) as form:
        fields = form.fields
        if fields.get("remove_background_noise", "").lower() not in _FALSE:
            raise Invalid(
                "remove_background_noise: clips are stored as they are; send false", "remove_background_noise"
            )
        new = NewVoice(
            name=fields.get("name", ""),
            data=form.file.data,
            mime_type=form.file.mime_type,
            field=_FIELD,
            consent=fields.get("consent", ""),
            description=fields.get("description", ""),
        )
        voice = await store(request, new)
    return json_response(AddedVoice(voice.id))


@operation(
    "Delete a cloned voice.",
    parameters=(Parameter("voice_id", str, "Its id, or its name.", where="path", required=True),),
    answers={200: Answer("It is gone.", Status)},
)
async def delete(request: web.Request) -> web.Response:
    """`DELETE /v1/voices/{voice_id}`. Raises NotFound, for a built-in voice too."""
    await request.app[VOICES].delete(caller(request).tenant, request.match_info["voice_id"])
    return json_response(Status())
