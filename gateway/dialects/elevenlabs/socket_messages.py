"""What ElevenLabs' socket is told: in its address, in its first message, and in those after it."""

from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from bus import wire
from bus.errors import Invalid
from bus.jobs.submit import keyed_id
from bus.params import short
from gateway.access.caller import CALLER
from gateway.api.job_fields import JobOptions, build_job, idempotent_id
from gateway.dialects.elevenlabs import names
from gateway.http.bodies import Body
from gateway.http.operation import Parameter
from gateway.http.services import AUTHENTICATOR, FLEET, JOBS
from gateway.sockets.splitter import Splitter

API: Final = "elevenlabs"
_DEFAULT_SCHEDULE: Final = (120, 160, 250, 290)
#: `try_trigger_generation` asks for nothing shorter.
_MIN_TRIGGERED_CHARS: Final = 50
_DEFAULT_INACTIVITY_S, _MAX_INACTIVITY_S = 20, 180
_MIN_SPEED, _MAX_SPEED = 0.25, 4.0
#: Where a client may put its key, for the refusal of a socket without one.
_KEY_PLACES: Final = "`xi-api-key`, a header or in the first message"
_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False, "": False}
#: What the path and the first message may say of a format beside what the table has.
_SHORT_FORMATS: Final = {"mp3_44100": "mp3_44100_128"}

PARAMETERS: Final = (
    Parameter("voice_id", str, "A voice of ours, or any of theirs, which means the model's default.", "path", True),
    Parameter("model_id", str, "Of ours or of theirs; default `speech`."),
    Parameter("language_code", str, "What a voice of theirs is to speak."),
    Parameter("output_format", str, f"`codec_rate_kbps`; default `{names.DEFAULT_FORMAT}`."),
    Parameter("inactivity_timeout", int, f"Seconds, 1 to {_MAX_INACTIVITY_S}; default {_DEFAULT_INACTIVITY_S}."),
    Parameter("auto_mode", bool, "Every text is asked for at once."),
    Parameter("seed", int, "Of the engine's chance."),
)


class VoiceSettings(msgspec.Struct, frozen=True):
    """Of theirs; no engine of ours has any of the others."""

    speed: Annotated[float, Meta(ge=_MIN_SPEED, le=_MAX_SPEED)] | None = None


class GenerationConfig(msgspec.Struct, frozen=True):
    #: Characters that must have come before the first, second, … generation; the last counts for all later ones.
    chunk_length_schedule: Annotated[list[Annotated[float, Meta(ge=50, le=500)]], Meta(min_length=1)] | None = None


class Message(msgspec.Struct, frozen=True):
    """The settings and the key count in the first one only. Fields nobody knows are ignored."""

    text: str
    try_trigger_generation: bool | None = None
    flush: bool | None = None
    voice_settings: VoiceSettings | None = None
    generation_config: GenerationConfig | None = None
    xi_api_key: str | None = msgspec.field(default=None, name="xi-api-key")
    xi_api_key_: str | None = msgspec.field(default=None, name="xi_api_key")
    authorization: str | None = None
    #: Ours: for the engine.
    params: dict[str, Any] = {}

    @property
    def key(self) -> str:
        """A key or token that did not come with the handshake, or ""."""
        bearer = (self.authorization or "").strip()
        scheme, _, rest = bearer.partition(" ")
        return self.xi_api_key or self.xi_api_key_ or (rest.strip() if scheme.lower() == "bearer" else bearer)


MESSAGE: Final = Body(Message)


class Asked:
    """One socket's wishes, and its generations' jobs."""

    def __init__(self, request: web.Request) -> None:
        """Raises Invalid for what is wrong with the address."""
        self._request = request
        query = request.query
        name = query.get("output_format", names.DEFAULT_FORMAT)
        self.form = names.format_of(_SHORT_FORMATS.get(name, name), names.SPEECH_FORMATS)
        self.inactivity_s = _whole(request, "inactivity_timeout", 1, _MAX_INACTIVITY_S, _DEFAULT_INACTIVITY_S)
        self.auto_mode = _flag(request, "auto_mode")
        # What our engines do anyway, or cannot; still of the right kind.
        for flag in ("sync_alignment", "enable_ssml_parsing", "enable_logging"):
            _flag(request, flag)
        self._wishes = JobOptions(seed=_whole(request, "seed", 0, 4_294_967_295, 0))
        self._speed: float | None = None
        self._key = ""

    def check(self) -> None:
        """Raises what any generation would be refused for."""
        self._job("-", "")

    def begin(self, first: Message) -> None:
        """Heed what only the first message says. Raises BusError."""
        if first.voice_settings is not None:
            self._speed = first.voice_settings.speed
        self._wishes = msgspec.structs.replace(self._wishes, params=first.params)
        self._key = first.key

    def job(self, text: str, place: int) -> wire.Job:
        """A generation's complete job; `place` tells it from the socket's others. Raises BusError."""
        # The Idempotency-Key of the handshake is one for all of them.
        same = idempotent_id(self._request, API)
        return self._job(text, keyed_id(API, f"{same}/{place}") if same else "")

    def _job(self, text: str, job_id: str) -> wire.Job:
        request, query = self._request, self._request.query
        jobs = request.app[JOBS]
        # The key may have been revoked since.
        request[CALLER] = request.app[AUTHENTICATOR].authenticate_socket(request, self._key, _KEY_PLACES)
        model = names.speech_model(request.app[FLEET], query.get("model_id", ""))
        card = jobs.card(model)
        voice = names.speech_voice(request.match_info["voice_id"], query.get("language_code", ""), card)
        params = self._wishes.params
        if self._speed is not None and names.knows(card, "speed"):
            params = {"speed": self._speed, **params}
        elif self._speed is not None:
            # An engine that has no speed of its own is played at it.
            self.form = msgspec.structs.replace(self.form, speed=self._speed)
        job = build_job(request, API, self._wishes, input=text, model=model, voice=voice, params=params, job_id=job_id)
        return jobs.validate(job, streams=True, size_hint_bytes=len(text))


class Schedule:
    """Text until it is enough to be asked for."""

    def __init__(self, *, auto: bool) -> None:
        """`auto`: every text is enough."""
        self._auto, self._schedule, self._num_given, self._text = auto, list[float](_DEFAULT_SCHEDULE), 0, ""

    @property
    def num_held_chars(self) -> int:
        return len(self._text)

    def begin(self, config: GenerationConfig | None) -> None:
        if config is not None and config.chunk_length_schedule is not None:
            self._schedule = config.chunk_length_schedule

    def add(self, text: str, *, trigger: bool, flush: bool) -> str:
        """What is to be asked for now, or ""."""
        self._text += text
        enough = self._schedule[min(self._num_given, len(self._schedule) - 1)]
        if flush or self._auto:
            return self.finish()
        if len(self._text) < (_MIN_TRIGGERED_CHARS if trigger else enough):
            return ""
        return self._give(_cut(self._text))

    def finish(self) -> str:
        """All that is left, or ""."""
        return self._give(len(self._text))

    def _give(self, end: int) -> str:
        given, self._text = self._text[:end].lstrip(), self._text[end:]
        self._num_given += bool(given)
        return given


def _cut(text: str) -> int:
    """Where to end a generation: behind a sentence, if that is not too early; else behind a word, else anywhere."""
    behind_sentence = sum(map(len, Splitter("sentence", len(text)).feed(text)))
    if behind_sentence > len(text) // 2:
        return behind_sentence
    return len(text) - len(text.rpartition(" ")[2]) or len(text)


def _flag(request: web.Request, name: str) -> bool:
    given = request.query.get(name, "")
    if given.lower() not in _FLAGS:
        raise Invalid(f"{name}: must be true or false, not {short(given)!r}", name)
    return _FLAGS[given.lower()]


def _whole(request: web.Request, name: str, least: int, most: int, default: int) -> int:
    given = request.query.get(name, str(default))
    if not (given.isascii() and given.isdecimal() and least <= int(given[:20]) <= most):
        raise Invalid(f"{name}: must be a whole number from {least} to {most}, not {short(given)!r}", name)
    return int(given)
