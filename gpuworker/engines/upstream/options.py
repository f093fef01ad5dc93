"""Options of `[engines.upstream.MODEL]`: the server, how to speak to it, and the limits of its answers."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gpuworker.engine import EngineOptions

_Url = Annotated[str, Meta(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?\Z")]
_Seconds = Annotated[float, Meta(gt=0, le=86_400)]
_Path = Annotated[str, Meta(pattern=r"^(/[!-~]*)?\Z", max_length=1000)]
_Name = Annotated[str, Meta(min_length=1, max_length=200)]


class Clip(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A recording that the server imitates."""

    #: A file of this machine, 10 MiB at most.
    file: str
    #: The words that it says.
    text: str = ""


class UpstreamOptions(EngineOptions, frozen=True, kw_only=True):
    """Options of one model."""

    #: Base of the server's paths, without `/v1`. No job can choose or change it.
    url: _Url = ""
    #: `openai`: `POST /v1/audio/speech`; `acestep`: ACE-Step 1.5's tasks.
    api: Literal["openai", "acestep"] = "openai"
    #: The server's name of the model; by default ours.
    model: str = ""
    #: Sent as `Authorization: Bearer …`.
    key: str = ""
    #: Of the server's audio. Audio of another rate is a failure, never resampled.
    rate_hz: Annotated[int, Meta(ge=8_000, le=192_000)] = 24_000
    channels: Annotated[int, Meta(ge=1, le=2)] = 1
    #: The server's voices that jobs may name; the first is the default unless `default_voice` names another.
    voices: tuple[_Name, ...] = ()
    default_voice: str = ""
    #: Further voices: recordings that are sent with each job, by name.
    clips: dict[str, Clip] = msgspec.field(default_factory=dict)
    #: How the clip of a caller's voice is passed on: `ref_audio`: with each request; `voices`: once, to
    #: `POST /v1/audio/voices`; "": the model does not clone.
    clones: Literal["", "ref_audio", "voices"] = ""
    #: BCP 47 tag of the voices; `und`: not known.
    language: str = "und"
    #: `wav` says its rate and length, `pcm` (s16le) does not.
    response_format: Literal["wav", "pcm"] = "wav"
    #: The field of that name; "": it is not sent. Audio in events is read whether or not they were requested.
    stream_format: Literal["", "audio", "sse"] = ""
    #: Whether the server reads SSML documents; without it they are refused.
    ssml: bool = False
    #: Whether jobs may have a `speed`, which is sent on.
    speed: bool = True
    #: Further params of jobs, sent as fields of the same name: JSON Schema by name.
    params: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    #: Further fields of every request.
    fields: dict[str, Any] = msgspec.field(default_factory=dict)
    #: Further fields of the requests that have a clip.
    clip_fields: dict[str, Any] = msgspec.field(default_factory=dict)
    #: Whether the server makes equal audio of equal requests: a later attempt then continues sample by sample.
    repeats: bool = False
    #: The field for a job's seed; "": it is not sent.
    seed_field: str = ""
    #: Longest input, in characters.
    max_input_chars: Annotated[int, Meta(ge=1, le=1_000_000)] = 4096
    #: The most seconds of audio of one character: a job that makes more is ended.
    seconds_per_char: Annotated[float, Meta(gt=0, le=60)] = 0.5
    #: The most letters that a second can hold at normal speed: audio that holds more was cut short.
    letters_per_second: Annotated[float, Meta(gt=0, le=1_000)] = 60.0
    #: Longest piece of music.
    max_seconds: Annotated[float, Meta(ge=1, le=36_000)] = 600.0
    #: Requests that the server has at the same time, at most.
    max_requests: Annotated[int, Meta(ge=1, le=1024)] = 8
    connect_s: _Seconds = 5.0
    #: From the request to the first byte of audio; for music to the end of the task.
    first_byte_s: _Seconds = 120.0
    #: The longest silence within an answer.
    silence_s: _Seconds = 20.0
    #: How long a job waits for a server that answers 429 or 503, or is not there, before its attempt fails.
    busy_s: _Seconds = 60.0
    #: Answers 200 once the server can take requests; "": whether the port accepts a connection.
    health: _Path = "/health"
    #: The server's command line, started and supervised here; "": another process runs the server.
    command: str = ""
    #: How long the command has to end before it is killed.
    stop_s: _Seconds = 10.0
    #: SPDX expression of all that the server runs.
    licence: str = "LicenseRef-upstream"

    def __post_init__(self) -> None:
        """Raises ValueError for options that contradict each other."""
        if self.default_voice and self.default_voice not in self.all_voices:
            raise ValueError(f"default_voice: {self.default_voice!r} is neither in voices nor in clips")
        if len(set(self.all_voices)) < len(self.all_voices):
            raise ValueError("voices: a name is there twice, in voices or in clips")
        if self.clones and self.api != "openai":
            raise ValueError(f"clones: {self.clones!r} needs the api openai, not {self.api}")
        if taken := set(self.params) & {"input", "model", "response_format", "seed", "stream_format", "voice"}:
            raise ValueError(f"params: {min(taken)!r} is a field that this engine fills in itself")

    @property
    def all_voices(self) -> tuple[str, ...]:
        """The names of the voices, those of clips included."""
        return (*self.voices, *self.clips)
