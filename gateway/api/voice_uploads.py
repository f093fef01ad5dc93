"""An upload of a voice, whichever API it comes by; and the names that no voice may have."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from bus.blobs.uploaded import UploadedVoice
from bus.fleet.messages import ModelCard
from bus.voices import REFERENCE
from gateway.access.caller import caller
from gateway.api.answers import CLONED, ShownVoice
from gateway.api.job_fields import OPENAI_VOICES
from gateway.http.forms import Form, read_form
from gateway.http.services import BUFFERS, FLEET, VOICES
from gateway.voices.uploads import NewVoice

FILES: Final = ("multipart/form-data",)
#: A decoded clip, twice: PCM and WAV.
_DECODED_BYTES: Final = 12 << 20


@asynccontextmanager
async def form_of(request: web.Request, field: str) -> AsyncIterator[Form]:
    """The form in the body, whose file is `field`; its memory, and that of the decoded clip, is held meanwhile.

    Raises as `read_form` does.
    """
    with request.app[BUFFERS].hold(caller(request).owner) as buffer:
        form = await read_form(request, buffer, field, request.app[VOICES].max_bytes)
        await buffer.grow(_DECODED_BYTES)
        yield form


def shown_uploaded(request: web.Request, cards: Iterable[ModelCard], *, is_all: bool) -> list[ShownVoice]:
    """The caller's voices, as voices of the first of `cards` that clones; none without such a card, unless `is_all`."""
    card = next((each for each in cards if REFERENCE in each.inputs), None)
    found = request.app[VOICES].voices.of(caller(request).tenant) if card is not None or is_all else []
    return [
        ShownVoice(
            id=voice.id,
            name=voice.name,
            language="",
            gender="",
            sha256=voice.digest,
            ssml=card is not None and card.ssml,
            model="" if card is None else card.name,
            voice_id=voice.id,
            category=CLONED,
            labels={},
            description=voice.description or None,
        )
        for voice in found
    ]


async def store(request: web.Request, new: NewVoice) -> UploadedVoice:
    """Store a voice of the caller's. Raises as `VoiceUploads.add` does."""
    cards = request.app[FLEET].cards().values()
    built_in = {name for card in cards for voice in card.voices for name in (voice.id, voice.name)}
    voice, _ = await request.app[VOICES].add(caller(request), new, built_in | OPENAI_VOICES)
    return voice
