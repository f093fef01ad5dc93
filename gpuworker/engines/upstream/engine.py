"""`upstream`: models of HTTP servers on this machine or near it, each described by a table of options.

The server does the work: the engine sends a job on, decodes the answer while it arrives, and checks that it is what it
should be. Each request has a thread of its own; the device's thread looks at it between two pauses.
"""

import base64
import mimetypes
from collections.abc import Generator, Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec

from bus.bound import Bound, SecondsParam, SpokenText
from bus.quality import Limits
from bus.text import did_you_mean
from bus.voices import REFERENCE, REFERENCE_TEXT
from gpuworker.engine import (
    Capabilities,
    Determinism,
    EngineJob,
    Estimate,
    Event,
    MemoryPolicy,
    Rejected,
    Resume,
    Voice,
    check_text,
)
from gpuworker.engines.clip import CLIP_TEXT
from gpuworker.engines.upstream.acestep import Music
from gpuworker.engines.upstream.audio import Shape
from gpuworker.engines.upstream.command import Command
from gpuworker.engines.upstream.options import UpstreamOptions
from gpuworker.engines.upstream.server import Server
from gpuworker.engines.upstream.speech import Speech

_MAX_CLIP_BYTES: Final = 10 << 20
_SPEED: Final = {"type": "number", "minimum": 0.25, "maximum": 4}
#: ACE-Step's fields that jobs of music have here, with our names; `music` has them too.
_MUSIC: Final[dict[str, Any]] = {
    "bpm": {"type": "number", "minimum": 30, "maximum": 300},
    "key": {"type": "string", "minLength": 1, "maxLength": 24},
    "metre": {"type": "integer", "enum": [2, 3, 4, 6]},
    "lyrics": {"type": "string", "maxLength": 4096},
}
#: Of a piece whose job does not say.
_SECONDS: Final = 30.0
#: Of any spoken text, beside its characters.
_LEAD_S: Final = 10.0
#: A rough figure for estimates.
_CHARS_PER_S: Final = 15


class Upstream:
    """The engine of one model. From `load` to `unload` it watches its server."""

    Options = UpstreamOptions
    #: Each table `[engines.upstream.MODEL]` is a model.
    has_a_table_for_each_model = True

    def __init__(self, model: str, options: UpstreamOptions) -> None:
        """Raises ValueError without a URL, for one whose port is none, and for a command that no shell would split.

        Without any option it can be described, as `antiphon doctor` does, and not be loaded.
        """
        if not options.url and options != UpstreamOptions():
            raise ValueError("url: is missing")
        self._options = options = msgspec.structs.replace(options, model=options.model or model)
        self._name = f"upstream {model}"
        self._server = Server(self._name, options)
        self._command = Command(model, options.command, options.stop_s) if options.command else None
        self._maker: Speech | Music | None = None
        self._capabilities = Capabilities(
            name=model,
            kind="music" if options.api == "acestep" else "speech",
            rate_hz=options.rate_hz,
            channels=options.channels,
            resume=Resume.REPLAY if options.repeats else Resume.RESTART,
            determinism=Determinism.SAME_BUILD if options.repeats else Determinism.NONE,
            param_schema={
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "additionalProperties": False,
                "properties": _params(options),
            },
            max_input_chars=options.max_input_chars,
            voices=tuple(Voice(voice, voice, options.language) for voice in options.all_voices),
            default_voice=options.default_voice or next(iter(options.all_voices), ""),
            inputs={REFERENCE: CLIP_TEXT, REFERENCE_TEXT: "The words of that clip, UTF-8."} if options.clones else {},
            ssml=options.ssml,
            licence=options.licence,
            bound=_bound(options),
            quality=Limits(),
        )

    def capabilities(self) -> Capabilities:
        """As the options say: the server need not be there."""
        return self._capabilities

    def validate(self, job: EngineJob) -> EngineJob:
        """`job` with its voice filled in. Raises Rejected."""
        card = self._capabilities
        check_text(job.input, card.max_input_chars)
        voices = [voice.id for voice in card.voices]
        if job.voice and job.voice not in voices:
            known = did_you_mean(job.voice, voices) if voices else ", which has no voices"
            raise Rejected("voice", f"{job.voice!r} is no voice of {card.name}{known}")
        params = job.params
        if isinstance(card.bound, SecondsParam):
            params = {"seconds": card.bound.default_s, **params}
        return replace(job, voice=job.voice or card.default_voice, params=params)

    def estimate(self, job: EngineJob, batch: int = 1) -> Estimate:
        """Rough: only the server knows."""
        seconds = float(job.params.get("seconds", len(job.input) / _CHARS_PER_S))
        return Estimate(device_bytes=0, seconds=None, cost_s=seconds / 10)

    def batch_key(self, job: EngineJob) -> Hashable | None:
        """None: the server forms its own batches."""
        return None

    def load(self, device: str, policy: MemoryPolicy) -> None:
        """Read the clips, start the command if there is one, and begin to watch the server.

        Raises ValueError, OSError for a clip that cannot be read.
        """
        options = self._options
        if not options.url:
            raise ValueError(f"{self._name} has no url")
        shape = Shape(self._name, options.rate_hz, options.channels)
        if options.api == "acestep":
            self._maker = Music(self._server, options, shape)
        else:
            clips = {name: _data_url(Path(clip.file)) for name, clip in options.clips.items()}
            self._maker = Speech(self._server, options, shape, clips)
        if self._command is not None:
            self._command.start()
        self._server.health.start()

    def warm_up(self) -> None:
        """No effect: a server warms up by itself, and says by its health when it has."""

    def unready(self) -> str:
        """Why the server takes no request: its command has ended, or its health says so."""
        if self._command is not None and self._command.reason:
            return f"{self._name}: {self._command.reason}"
        return self._server.health.reason

    def generate(self, jobs: Sequence[EngineJob]) -> Generator[tuple[int, Event], None, None]:
        """One job, from its first frame on, whatever its `start_frame`: the host discards what the log has."""
        assert self._maker is not None, "the engine is not loaded"
        for index, job in enumerate(jobs):
            for event in self._maker.events(job):
                yield index, event

    def unload(self) -> None:
        """Watch the server no longer, and stop its command. Idempotent."""
        self._server.health.stop()
        if self._command is not None:
            self._command.stop()
        self._maker = None


def _params(options: UpstreamOptions) -> dict[str, Any]:
    """JSON Schema by name."""
    if options.api == "acestep":
        seconds = {"type": "number", "minimum": 1, "maximum": options.max_seconds, "default": _default_seconds(options)}
        return {**_MUSIC, "seconds": seconds, **options.params}
    return {**({"speed": _SPEED} if options.speed else {}), **options.params}


def _default_seconds(options: UpstreamOptions) -> float:
    return min(_SECONDS, options.max_seconds)


def _bound(options: UpstreamOptions) -> Bound:
    if options.api == "acestep":
        return SecondsParam(param="seconds", default_s=_default_seconds(options))
    weights = {"letter": options.seconds_per_char, "other": options.seconds_per_char}
    speed: dict[str, Any] = {"speed_param": "speed", "min_speed": 0.25, "max_speed": 4.0} if options.speed else {}
    return SpokenText(lead_s=_LEAD_S, word_s=0.0, weights=weights, **speed)


def _data_url(file: Path) -> str:
    """A recording as RFC 2397 has it. Raises OSError, ValueError."""
    size = file.stat().st_size
    if size > _MAX_CLIP_BYTES:
        raise ValueError(f"clip {file} has {size:,} bytes, the limit is {_MAX_CLIP_BYTES:,}")
    media = mimetypes.guess_type(file.name)[0] or "audio/wav"
    return f"data:{media};base64,{base64.b64encode(file.read_bytes()).decode()}"
