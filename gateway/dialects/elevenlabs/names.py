"""ElevenLabs' names of models, voices and output formats, mapped to ours."""

import re
from collections.abc import Iterable
from typing import Annotated, Any, Final

from aiohttp import web
from msgspec import Meta

from bus import ssml
from bus.errors import Invalid
from bus.fleet.messages import ModelCard
from bus.params import short
from bus.voices import is_uploaded_id
from gateway.api.job_fields import our_model
from gateway.api.routing import Chosen
from gateway.codecs import Format, checked, format_named
from gateway.http.operation import Parameter

#: The form of every voice id of ElevenLabs', cloned voices included. Ours do not have it.
_THEIR_VOICE: Final = re.compile(r"[A-Za-z0-9]{20}")
_COMMON: Final = (
    "mp3_22050_32 mp3_24000_48 mp3_44100_32 mp3_44100_64 mp3_44100_96 mp3_44100_128 mp3_44100_192 "
    "pcm_8000 pcm_16000 pcm_22050 pcm_24000 pcm_32000 pcm_44100 pcm_48000 ulaw_8000 alaw_8000 "
    "opus_48000_32 opus_48000_64 opus_48000_96 opus_48000_128 opus_48000_192"
)
_WAV: Final = "wav_8000 wav_16000 wav_22050 wav_24000 wav_32000 wav_44100 wav_48000"
_MUSIC: Final = "mp3_48000_128 mp3_48000_192 mp3_48000_240 mp3_48000_320"
DEFAULT_FORMAT: Final = "mp3_44100_128"
#: Stands for the model's default voice, as any of ElevenLabs' voices that the model does not have.
DEFAULT_VOICE: Final = "default"
#: ElevenLabs' longest `<break>`, in seconds, and its ranges for two fields of speech.
MAX_BREAK_S: Final = 3.0
MAX_SEED: Final = 4_294_967_295
MIN_SPEED: Final = 0.25
MAX_SPEED: Final = 4.0


class _NamesWithPrefix:
    """Every name with a prefix, so that models to come are included."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.startswith(self._prefix)


_SPEECH_MODELS: Final = _NamesWithPrefix("eleven_")
_MUSIC_MODELS: Final = _NamesWithPrefix("music_v")


def _formats(names: Iterable[str]) -> dict[str, Format]:
    """The formats of names such as `mp3_44100_128`: codec, rate in Hz, kbit/s."""
    table = {}
    for name in names:
        codec, rate_hz, *kbps = name.split("_")
        table[name] = Format(codec, int(rate_hz), int(kbps[0]) * 1000 if kbps else 0)
    return table


SPEECH_FORMATS: Final = _formats(f"{_COMMON} {_WAV}".split())
MUSIC_FORMATS: Final = _formats(f"{_COMMON} {_MUSIC}".split())


def format_of(name: str, table: dict[str, Format]) -> Format:
    """The format of this name. Raises Invalid that lists the accepted names."""
    known = table.get(name)
    if known is None:
        raise Invalid(f"output_format: {short(name)!r} is not one of {', '.join(table)}", "output_format")
    format_named(known.codec, "output_format")
    return checked(known, rate="output_format", bitrate="output_format")


def output_format(table: dict[str, Format], default: str) -> Parameter:
    """The query parameter `output_format`, for `@operation`."""
    kind = Annotated[str, Meta(examples=[*table])]
    return Parameter("output_format", kind, f"Codec, rate in Hz, kbit/s; default `{default}`.")


def speech_model(request: web.Request, model_id: str, version: str = "") -> Chosen:
    """Our model for a model id of a speech request. Raises NoWorker for a route to a version that no worker has."""
    return our_model(request, model_id, _SPEECH_MODELS, version=version)


def music_model(request: web.Request, model_id: str, version: str = "") -> Chosen:
    """Our model for a model id of a music request. Raises NoWorker for a route to a version that no worker has."""
    return our_model(request, model_id, _MUSIC_MODELS, "music", version=version)


def speech_voice(voice_id: str, card: ModelCard) -> str:
    """The model's voice for the voice id of a path; "" for its default, or for one of the request's language.

    "" is what a voice of ElevenLabs' that the model does not have becomes. Any other id is returned as it is, for
    validation to refuse.
    """
    ids = [voice.id for voice in card.voices]
    if is_uploaded_id(voice_id):
        return voice_id
    if not ids:
        return ""
    if voice_id in ids or not (voice_id == DEFAULT_VOICE or _THEIR_VOICE.fullmatch(voice_id)):
        return voice_id
    return ""


def with_breaks(params: dict[str, Any], text: str, card: ModelCard, path: str = "input") -> dict[str, Any]:
    """`params` for a text, the field `path`, with ElevenLabs' `<break time="1.5s" />`, which is no SSML.

    Raises Invalid.
    """
    if "<break" not in text or ssml.is_document(text):
        return params
    try:
        has_breaks = ssml.check_breaks(text, MAX_BREAK_S)
    except ssml.BadBreak as error:
        raise Invalid(f"{path}: {error}", path) from error
    return {"breaks": True, **params} if has_breaks and has_param(card, "breaks") else params


def has_param(card: ModelCard, param: str) -> bool:
    """Whether the engine has a parameter of this name."""
    properties: dict[str, Any] = card.param_schema.get("properties", {})
    return param in properties
