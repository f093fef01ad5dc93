"""The messages of ElevenLabs' socket, the parameters of its URL, and the jobs that they describe."""

from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from bus import wire
from bus.errors import Invalid
from bus.jobs.submit import keyed_id
from bus.options import schema
from bus.params import short
from gateway.access.caller import CALLER, Caller
from gateway.api.job_fields import JobOptions, build_job, idempotent_id
from gateway.api.routing import Chosen
from gateway.dialects.elevenlabs import names
from gateway.dialects.elevenlabs.names import MAX_SEED, MAX_SPEED, MIN_SPEED
from gateway.http.bodies import Body
from gateway.http.operation import Parameter
from gateway.http.query import integer
from gateway.http.services import AUTHENTICATOR, JOBS
from gateway.sockets.pinned_voices import Pin, PinnedVoices

API: Final = "elevenlabs"
_DEFAULT_INACTIVITY_S: Final = 20
_MAX_INACTIVITY_S: Final = 180
#: Clients that were written for a larger maximum send 300.
_MAX_GIVEN_INACTIVITY_S: Final = 1_000_000
_NORMALIZATIONS: Final = ("auto", "on", "off", "")
MAX_CONTEXT_ID_CHARS: Final = 128
#: Where a client may put its key, for the refusal of a socket without one.
_KEY_PLACES: Final = "`xi-api-key`, a header or in the first message"
_FLAGS_WITHOUT_EFFECT: Final = (
    "sync_alignment",
    "enable_ssml_parsing",
    "enable_logging",
    "apply_language_text_normalization",
)
_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False, "": False}
#: Names of formats that only the socket has.
_SHORT_FORMATS: Final = {"mp3_44100": "mp3_44100_128"}

PARAMETERS: Final = (
    Parameter("voice_id", str, "One of our voices; one of ElevenLabs' stands for the model's default.", "path", True),
    Parameter("model_id", str, "One of our models or of ElevenLabs'; default `speech`."),
    Parameter("language_code", str, "The language for a voice of ElevenLabs'."),
    Parameter("output_format", str, f"`codec_rate_kbps`; default `{names.DEFAULT_FORMAT}`."),
    Parameter(
        "inactivity_timeout",
        int,
        f"Seconds from 1; more than {_MAX_INACTIVITY_S} are {_MAX_INACTIVITY_S}; default {_DEFAULT_INACTIVITY_S}.",
    ),
    Parameter("auto_mode", bool, "Start a generation with every text."),
    Parameter("seed", int, "Seed of the engine's random numbers."),
)


_ContextId = Annotated[str, Meta(max_length=MAX_CONTEXT_ID_CHARS)]


class VoiceSettings(msgspec.Struct, frozen=True):
    """ElevenLabs' settings of a voice; those that no engine supports are ignored."""

    speed: Annotated[float, Meta(ge=MIN_SPEED, le=MAX_SPEED)] | None = None


class GenerationConfig(msgspec.Struct, frozen=True):
    """When generations start."""

    #: Characters of text that start the first, second, … generation; the last number applies to all later ones.
    chunk_length_schedule: Annotated[list[Annotated[float, Meta(ge=50, le=500)]], Meta(min_length=1)] | None = None


class Message(msgspec.Struct, frozen=True):
    """A message of a client. Settings and key count in the first one only. Unknown fields are ignored."""

    text: str | None = None
    try_trigger_generation: bool | None = None
    flush: bool | None = None
    voice_settings: VoiceSettings | None = None
    generation_config: GenerationConfig | None = None
    xi_api_key: str | None = msgspec.field(default=None, name="xi-api-key")
    xi_api_key_: str | None = msgspec.field(default=None, name="xi_api_key")
    authorization: str | None = None
    #: Ours: params of the engine.
    params: dict[str, Any] = {}

    @property
    def texts(self) -> list[tuple[str, str]]:
        """The texts, each with the id of its voice; "" for the voice in the URL."""
        return [(self.text, "")] if self.text else []

    @property
    def key(self) -> str:
        """The key or token in this message, or ""."""
        bearer = (self.authorization or "").strip()
        scheme, _, rest = bearer.partition(" ")
        return self.xi_api_key or self.xi_api_key_ or (rest.strip() if scheme.lower() == "bearer" else bearer)


class TextMessage(Message, frozen=True, kw_only=True):
    """A message of `stream-input`."""

    text: str


class ContextMessage(Message, frozen=True, kw_only=True):
    """A message of `multi-stream-input`."""

    close_context: bool | None = None
    close_socket: bool | None = None

    @property
    def opens(self) -> bool:
        """Whether the message opens a context that is not open."""
        return bool(self.text)


class DialogueInput(msgspec.Struct, frozen=True):
    """A text and the voice that speaks it."""

    text: str
    voice_id: str = ""


class DialogueMessage(ContextMessage, frozen=True, kw_only=True):
    """A message of the socket for dialogues, whose URL has no voice."""

    inputs: list[DialogueInput] = []
    #: The voices of the context, in its first message. Any other voice may speak too.
    voices: list[str] = []

    @property
    def opens(self) -> bool:
        """Whether the message opens a context that is not open."""
        return bool(self.voices or self.inputs)

    @property
    def texts(self) -> list[tuple[str, str]]:
        """The texts, each with the id of its voice."""
        return [(each.text, each.voice_id) for each in self.inputs if each.text]


class Addressed(msgspec.Struct, frozen=True):
    """The part of a `ContextMessage` that says which context it is for; ElevenLabs has both names."""

    context_id: _ContextId | None = None
    context_id_: Annotated[_ContextId | None, schema("As `context_id`.")] = msgspec.field(
        default=None, name="contextId"
    )

    @property
    def context(self) -> str:
        """The id; the context of messages without one has "default"."""
        return self.context_id or self.context_id_ or "default"


TEXT_MESSAGE: Final = Body(TextMessage)
CONTEXT_MESSAGE: Final = Body(ContextMessage)
DIALOGUE_MESSAGE: Final = Body(DialogueMessage)
ADDRESSED: Final = Body(Addressed)


class JobTemplate:
    """The settings of one socket, or of one context of it, from which the jobs of its generations are built."""

    def __init__(self, request: web.Request, voices: PinnedVoices, context_id: str = "", key: str = "") -> None:
        """`voices`, `key`: the socket's; "" without a key in its first message.

        Raises Invalid if a parameter of the URL is wrong.
        """
        self._request = request
        self._voices = voices
        self._context_id = context_id
        self._key = key
        name = request.query.get("output_format", names.DEFAULT_FORMAT)
        self.form = names.format_of(_SHORT_FORMATS.get(name, name), names.SPEECH_FORMATS)
        inactivity_s = integer(request, "inactivity_timeout", 1, _MAX_GIVEN_INACTIVITY_S) or _DEFAULT_INACTIVITY_S
        self.inactivity_s = min(inactivity_s, _MAX_INACTIVITY_S)
        self.auto_mode = _flag(request, "auto_mode")
        # Our engines do these anyway, or cannot; the values must still be valid.
        for flag in _FLAGS_WITHOUT_EFFECT:
            _flag(request, flag)
        normalization = request.query.get("apply_text_normalization", "")
        if normalization not in _NORMALIZATIONS:
            raise Invalid(
                f"apply_text_normalization: {short(normalization)!r} is not one of auto, on, off",
                "apply_text_normalization",
            )
        self._options = JobOptions(seed=integer(request, "seed", 0, MAX_SEED) or 0)
        self._speed: float | None = None

    def apply(self, first: Message) -> None:
        """Apply the settings of the first message. Raises BusError if any generation would be refused."""
        if first.voice_settings is not None:
            self._speed = first.voice_settings.speed
        self._options = msgspec.structs.replace(self._options, params=first.params)
        self._key = first.key or self._key
        self._build("-", "")

    def job(self, text: str, number: int, voice_id: str = "") -> wire.Job:
        """The validated job of generation `number`. `voice_id`: "" for the one in the URL. Raises BusError."""
        # The handshake has one Idempotency-Key for all generations.
        key = idempotent_id(self._request, API)
        place = f"{self._context_id}/{number}" if self._context_id else str(number)
        return self._build(text, keyed_id(API, f"{key}/{place}") if key else "", voice_id)

    def _build(self, text: str, job_id: str, voice_id: str = "") -> wire.Job:
        request = self._request
        query = request.query
        jobs = request.app[JOBS]
        # The key may have been revoked since the last generation.
        request[CALLER] = authenticated(request, self._key)
        model = names.speech_model(request, query.get("model_id", ""))
        card = jobs.card(model.model, model.version)
        voice_id = voice_id or request.match_info.get("voice_id", "default")
        voice = names.speech_voice(voice_id, card)
        params = names.with_breaks(self._options.params, text, card)
        if self._speed is not None and names.has_param(card, "speed"):
            params = {"speed": self._speed, **params}
        elif self._speed is not None:
            # The engine has no speed of its own, so its audio is played at this speed.
            self.form = msgspec.structs.replace(self.form, speed=self._speed)
        language = query.get("language_code", "").casefold()

        def build(pin: Pin | None) -> wire.Job:
            chosen, own = (Chosen(pin.model, pin.version), pin.voice) if pin else (model, voice)
            fields: dict[str, Any] = {"input": text, "voice": own, "params": params, "job_id": job_id}
            job = build_job(request, API, self._options, chosen, **fields)
            return jobs.validate(job, streams=True, size_hint_bytes=len(text), language=language)

        return self._voices.job((model.model, voice), build)


def authenticated(request: web.Request, key: str) -> Caller:
    """The caller of a socket whose first message held `key`, or "". Raises as `Authenticator.authenticate`."""
    return request.app[AUTHENTICATOR].authenticate_socket(request, key, _KEY_PLACES)


def _flag(request: web.Request, name: str) -> bool:
    """A query parameter as a bool; False if it is absent. Raises Invalid."""
    given = request.query.get(name, "")
    if given.lower() not in _FLAGS:
        raise Invalid(f"{name}: must be true or false, not {short(given)!r}", name)
    return _FLAGS[given.lower()]
