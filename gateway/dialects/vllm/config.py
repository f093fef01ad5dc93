"""`session.config` of vLLM-Omni's socket, and the jobs of the sentences that follow it."""

from typing import Final

import msgspec
from aiohttp import web

from bus import wire
from bus.errors import Invalid
from bus.jobs.submit import keyed_id
from gateway.access.caller import CALLER
from gateway.api.job_fields import JobOptions, idempotent_id
from gateway.codecs import Format
from gateway.dialects.openai.request import SpeechRequest, VoiceRef, build_speech_job
from gateway.http.bodies import Body
from gateway.http.services import AUTHENTICATOR, JOBS
from gateway.sockets.pinned_voices import Pin, PinnedVoices
from gateway.sockets.splitter import Granularity

API: Final = "vllm"
_DEFAULT_FORMAT: Final = "wav"
#: Bytes of a config without its unknown fields: it stays in memory as long as a sentence of it is queued.
_MAX_CONFIG_BYTES: Final = 64 << 10


class Config(JobOptions, frozen=True, kw_only=True):
    """The fields of vLLM-Omni's speech request, then ours. Fields that only their models can use are ignored.

    `run_on` and `linger_s` do not apply: the job of an interrupted sentence ends, or an interruption would free no
    slot.
    """

    model: str | None = None
    voice: str | VoiceRef | None = None
    #: Another name for `voice`.
    speaker: str | VoiceRef | None = None
    response_format: str | None = None
    speed: float | None = None
    instructions: str | None = None
    seed: int | None = None  # type: ignore[assignment]  # theirs may be null
    #: True: audio as it is made; False: each sentence in one message.
    stream_audio: bool = False
    split_granularity: Granularity = "none"
    #: True: audio as JSON, and the time of each word.
    word_timestamps: bool = False


CONFIG: Final = Body(Config)


class JobTemplate:
    """A valid config, from which the jobs of sentences are built."""

    def __init__(self, request: web.Request, voices: PinnedVoices, message: bytes) -> None:
        """`voices`: the socket's. `message`: the JSON of `session.config`. Raises BusError, naming the wrong field."""
        self.config = CONFIG.read(message)
        num_bytes = len(msgspec.json.encode(self.config))
        if num_bytes > _MAX_CONFIG_BYTES:
            raise Invalid(
                f"session.config: has {num_bytes} bytes without its unknown fields, the limit is {_MAX_CONFIG_BYTES}"
            )
        #: Characters that the config counts as in the queue, together with the first sentence of it.
        self.num_queued_chars = num_bytes
        self._request = request
        self._voices = voices
        self._size_hint_bytes = len(message)
        job, self.form = self._build("-", "")
        #: BCP 47 tag of the voice, "" if its model does not list it.
        self.language = request.app[JOBS].card(job.model, job.version).language_of(job.voice)
        if self.config.word_timestamps and not (self.config.stream_audio and self.form.codec == "pcm"):
            raise Invalid("word_timestamps: needs stream_audio true and response_format pcm", "word_timestamps")

    def job(self, text: str, place: str) -> wire.Job:
        """A sentence's validated job; `place` is unique among the socket's sentences. Raises BusError."""
        # The key may have been revoked since the last sentence.
        self._request[CALLER] = self._request.app[AUTHENTICATOR].authenticate(self._request)
        # The handshake has one Idempotency-Key for all sentences.
        key = idempotent_id(self._request, API)
        job, _ = self._build(text, keyed_id(API, f"{key}/{place}") if key else "")
        return job

    def _build(self, text: str, job_id: str) -> tuple[wire.Job, Format]:
        config = self.config
        options = {name: getattr(config, name) for name in JobOptions.__struct_fields__}
        options |= {"seed": config.seed or 0, "run_on": None, "linger_s": 0.0}
        formats: list[Format] = []

        def build(pin: Pin | None) -> wire.Job:
            body = SpeechRequest(
                **(options | {"version": pin.version} if pin else options),
                input=text,
                model=pin.model if pin else model,
                voice=pin.voice if pin else voice,
                response_format=config.response_format or _DEFAULT_FORMAT,
                speed=config.speed,
                instructions=config.instructions,
            )
            job, form = build_speech_job(self._request, body, self._size_hint_bytes, job_id, foreign_params=False)
            formats.append(form)
            return job

        given = config.speaker if config.voice is None else config.voice
        voice = given.id if isinstance(given, VoiceRef) else given or ""
        model = config.model or ""
        job = self._voices.job((model, voice), build)
        return msgspec.structs.replace(job, client=msgspec.structs.replace(job.client, api=API)), formats[0]
