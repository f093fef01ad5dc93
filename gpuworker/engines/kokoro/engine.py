"""Kokoro: the voices of one published model, on onnxruntime alone.

A text is spoken sentence by sentence, each made as a whole and without chance: any worker makes the same bytes on the
same build. A replacement makes the sentences since the last checkpoint again.
"""

import logging
from collections.abc import Generator, Hashable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, Final

from bus.quality import SPEECH
from bus.text import did_you_mean
from gpuworker.engine import (
    Capabilities,
    Completeness,
    Determinism,
    EngineJob,
    EngineOptions,
    Estimate,
    Event,
    MemoryPolicy,
    Rejected,
    Requirement,
    Resume,
)
from gpuworker.engines.kokoro.bound import spoken_text
from gpuworker.engines.kokoro.files import Files
from gpuworker.engines.kokoro.network import RATE_HZ, Network
from gpuworker.engines.kokoro.phonemes import KokoroFrontEnd
from gpuworker.engines.kokoro.speaker import Speaker
from gpuworker.engines.kokoro.vocabulary import IDS
from gpuworker.engines.reading.front_ends import INSTALL_ESPEAK, FrontEnds
from gpuworker.engines.reading.reader import Reader
from gpuworker.engines.reading.request import MAX_INPUT_CHARS, check_request, schema
from gpuworker.engines.reading.run import Run

#: The host logs its lines as the event `library.logged`.
_reports = logging.getLogger(__name__)

_SCHEMA: Final[Mapping[str, Any]] = schema({})
_REQUIRES: Final = (
    Requirement("antiphon[kokoro]", module="onnxruntime"),
    Requirement("antiphon[kokoro]", module="onnx"),
)
#: Estimates: speech has about 15 characters a second, and costs two thirds of its length on one core.
_CHARS_PER_S: Final = 15
_COST_PER_S: Final = 0.65


class KokoroOptions(EngineOptions, frozen=True, kw_only=True):
    """Options of `[engines.kokoro]`."""

    #: The model, an ONNX file.
    model: str = ""
    #: The voices, a NumPy archive; by default the only file of that kind beside the model.
    voices: str = ""
    #: The voice of a job that names none; by default the first one by name.
    default_voice: str = ""
    #: The model whose requests these voices answer too; "" for none: on a CPU, the first sound takes seconds.
    family: str = ""
    #: The language that all voices read, as espeak-ng names it; by default each its own.
    language: str = ""


class Kokoro:
    """The engine. Owns a session, and helper processes, from `load` to `unload`."""

    Options = KokoroOptions

    def __init__(self, options: KokoroOptions) -> None:
        self._options = options
        self._front_ends = FrontEnds()
        self._files = Files.read(options.model, options.voices, options.language)
        voices = self._files.voices
        for voice in list(voices.usable.values()):
            if not self._front_ends.can_read(voice.language):
                del voices.usable[voice.id]
                reason = f"{voice.id} speaks {voice.language}, whose phonemes need espeak-ng: {INSTALL_ESPEAK}"
                voices.unusable[voice.id] = reason
        default = voices.find(options.default_voice)
        self._default = default.id if default else next(iter(voices.usable), "")
        licences = self._front_ends.licences({voice.language for voice in voices.usable.values()})
        self._capabilities = Capabilities(
            name="kokoro",
            kind="speech",
            rate_hz=RATE_HZ,
            channels=1,
            resume=Resume.CHECKPOINT,
            determinism=Determinism.SAME_BUILD,
            param_schema=_SCHEMA,
            max_input_chars=MAX_INPUT_CHARS,
            voices=tuple(voice.listed() for voice in voices.usable.values()),
            default_voice=self._default,
            family=options.family,
            licence=" AND ".join(["Apache-2.0", *licences]),
            completeness=Completeness.WORDS,
            bound=spoken_text(voices.usable.values()),
            quality=SPEECH,
            requires=_REQUIRES,
        )
        self._network: Network | None = None

    def capabilities(self) -> Capabilities:
        """The voices are those that were in the file when the engine was made."""
        return self._capabilities

    @property
    def helper_pids(self) -> Sequence[int]:
        """The helper processes that run."""
        return self._front_ends.pids

    def validate(self, job: EngineJob) -> EngineJob:
        """`job` with the id of its voice and its params filled in. Raises Rejected."""
        valid = check_request(job, "kokoro")
        found = self._files.voices.find(job.voice or self._default)
        if found is None:
            raise Rejected("voice", self._unknown(job.voice))
        return replace(valid, voice=found.id)

    def _unknown(self, name: str) -> str:
        voices = self._files.voices
        reason = next((why for voice, why in voices.unusable.items() if voice.casefold() == name.casefold()), "")
        if reason:
            return f"{name!r} cannot be used: {reason}"
        return f"{name!r} is not known{did_you_mean(name, list(voices.usable), limit=3)}"

    def estimate(self, job: EngineJob, batch: int = 1) -> Estimate:
        """The length is not known beforehand; the cost is a rough figure from the number of characters."""
        seconds = len(job.input) / _CHARS_PER_S / float(job.params.get("speed", 1.0))
        return Estimate(device_bytes=0, seconds=None, cost_s=0.1 + seconds * _COST_PER_S)

    def batch_key(self, job: EngineJob) -> Hashable | None:
        """None: the graph takes one sentence at a time."""
        return None

    def load(self, device: str, policy: MemoryPolicy) -> None:
        """Load the model and the front end of the default voice, and log which arrays are no usable voice.

        Raises:
            RuntimeError: no model or no usable voice is named, or a file is none; the text names it.
            Unusable: the model is not what its file seems to be.
            SpeakerFailed: the helper process of the default voice's language did not start.
        """
        voices = self._files.voices
        if self._files.fault:
            raise RuntimeError(self._files.fault)
        if not voices.usable:
            raise RuntimeError(f"kokoro has no usable voice: {'; '.join(voices.unusable.values())}")
        if self._options.default_voice and voices.find(self._options.default_voice) is None:
            raise RuntimeError(f"engines.kokoro.default_voice: {self._unknown(self._options.default_voice)}")
        self._front_ends.open(voices.usable[self._default].language)
        if self._network is None:
            self._network = Network(self._files.model, device)
        for reason in voices.unusable.values():
            _reports.warning("a voice is left out: %s", reason)

    def warm_up(self) -> None:
        """Speak a word with the default voice."""
        for _ in self.generate([self.validate(EngineJob(id="warm-up", input="Ready."))]):
            continue

    def unload(self) -> None:
        """Free the model and end the helper processes. Idempotent."""
        self._network = None
        self._front_ends.stop()

    def generate(self, jobs: Sequence[EngineJob]) -> Generator[tuple[int, Event], None, None]:
        """Speak the jobs one after the other.

        Raises:
            SpeakerFailed: the helper process of the voice's language failed.
            TextLost: a word has no sound in the language or the voice.
        """
        for index, job in enumerate(jobs):
            run = Run(job, self._speaker(job), RATE_HZ)
            with closing(run.events()) as events:
                for event in events:
                    if job.cancel.cancelled:
                        break
                    yield index, event

    def _speaker(self, job: EngineJob) -> Speaker:
        voice = self._files.voices.find(job.voice)
        assert voice is not None, "validated"
        assert self._network is not None, "loaded"
        front_end = KokoroFrontEnd(self._front_ends.open(voice.language), voice.language)
        return Speaker(voice, self._network, Reader(front_end, IDS), float(job.params["speed"]))
