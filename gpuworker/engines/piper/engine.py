"""Piper: neural voices of a folder, on onnxruntime alone.

A text is spoken sentence by sentence, each from its own noise, and the vocoder runs in windows on a grid from the
beginning of a sentence. So any worker makes the same bytes, the first sound comes after a twelfth of a second's audio,
and a replacement computes only how long the sentences are that were sent before.
"""

import logging
from collections.abc import Generator, Hashable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec

from bus.quality import SPEECH
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
from gpuworker.engines.piper.bound import spoken_text
from gpuworker.engines.piper.installed import Voices, describe
from gpuworker.engines.piper.library import Library
from gpuworker.engines.piper.voices import Folder, read_folder
from gpuworker.engines.reading.request import MAX_INPUT_CHARS, check_request, schema
from gpuworker.engines.reading.run import Run

#: The host logs its lines as the event `library.logged`.
_reports = logging.getLogger(__name__)

#: Its pauses are silent, and its bound is close to the length of its audio: a quarter or more was seen.
_LIMITS = msgspec.structs.replace(SPEECH, min_snr_db=40.0, min_bound_share=0.15)
_SCHEMA: Final[Mapping[str, Any]] = schema(
    {
        "variation": {
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "description": "how far the sound varies with the seed; by default as far as the voice's publisher says",
        },
        "rhythm": {
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "description": "the same for the lengths of sounds",
        },
    }
)
_REQUIRES: Final = (
    Requirement("antiphon[piper]", module="onnxruntime"),
    Requirement("antiphon[piper]", module="onnx"),
)
#: Estimates: speech has about 15 characters a second, and costs an eighth of its length on one core.
_CHARS_PER_S: Final = 15
_COST_PER_S: Final = 0.12


class PiperOptions(EngineOptions, frozen=True, kw_only=True):
    """Options of `[engines.piper]`."""

    #: A folder of voices, `NAME.onnx` with `NAME.onnx.json` beside it; sub-folders are searched too.
    voices: str = ""
    #: The voice of a job that names none; by default the first one by name.
    default_voice: str = ""
    #: The model whose requests these voices answer too; "" for none.
    family: str = "speech"
    #: Voices of this rate are served.
    rate_hz: int = 22_050
    #: Voices in memory at the same time, some 200 MB each; the one that was not used for longest makes room.
    max_loaded: int = 4


class Piper:
    """The engine. Owns sessions of at most `max_loaded` voices, and helper processes, from `load` to `unload`."""

    Options = PiperOptions
    describe_voice = staticmethod(describe)

    def __init__(self, options: PiperOptions) -> None:
        self._options = options
        self._folder = read_folder(Path(options.voices).expanduser(), options.rate_hz) if options.voices else Folder()
        self._voices = Voices(self._folder)
        self._library = Library(self._folder, options.max_loaded)
        default = self._folder.find(options.default_voice) if options.default_voice else None
        self._default = default[0].id if default else next(iter(self._folder.voices), "")
        self._capabilities = Capabilities(
            name="piper",
            kind="speech",
            rate_hz=options.rate_hz,
            channels=1,
            resume=Resume.CHECKPOINT,
            determinism=Determinism.SAME_BUILD,
            param_schema=_SCHEMA,
            max_input_chars=MAX_INPUT_CHARS,
            voices=tuple(each for voice in self._folder.voices.values() for each in voice.listed()),
            default_voice=self._default,
            family=options.family,
            licence=" AND ".join(["Apache-2.0", *self._library.licences, "LicenseRef-voices"]),
            completeness=Completeness.WORDS,
            bound=spoken_text(self._folder.voices.values()),
            quality=_LIMITS,
            requires=_REQUIRES,
        )

    def capabilities(self) -> Capabilities:
        """The voices are those that were in the folder when the engine was made."""
        return self._capabilities

    @property
    def loaded_voices(self) -> Sequence[str]:
        """Ids of the voices in memory."""
        return self._library.loaded

    @property
    def helper_pids(self) -> Sequence[int]:
        """The helper processes that run."""
        return self._library.helper_pids

    def validate(self, job: EngineJob) -> EngineJob:
        """`job` with the id of its voice and its params filled in. Raises Rejected."""
        valid = check_request(job, "piper")
        found = self._voices.find(job, self._default)
        if found is None:
            raise Rejected("voice", self._voices.unknown(job.voice))
        voice, speaker = found
        own = {"variation": voice.variation, "rhythm": voice.rhythm}
        return replace(valid, voice=f"{voice.id}+{speaker}" if speaker else voice.id, params={**own, **valid.params})

    def estimate(self, job: EngineJob, batch: int = 1) -> Estimate:
        """The length is not known beforehand; the cost is a rough figure from the number of characters."""
        seconds = len(job.input) / _CHARS_PER_S / float(job.params.get("speed", 1.0))
        return Estimate(device_bytes=0, seconds=None, cost_s=0.05 + seconds * _COST_PER_S)

    def batch_key(self, job: EngineJob) -> Hashable | None:
        """None: every job runs alone, for windows of several jobs together take longer than one by one."""
        return None

    def load(self, device: str, policy: MemoryPolicy) -> None:
        """Load the default voice, and log which files of the folder are no usable voice.

        Raises:
            RuntimeError: the folder has no usable voice; the text says what is wrong with its files.
            Unusable: the default voice is not what its file seems to be.
            SpeakerFailed: the helper process of its language did not start.
        """
        folder = self._folder
        if not folder.voices and not self._options.voices:
            self._library.start(device)
            return  # its voices are installed while it runs
        if not folder.voices:
            reasons = "; ".join(folder.unusable.values())
            if self._options.voices and not Path(self._options.voices).expanduser().is_dir():
                reasons = "it is no folder"
            raise RuntimeError(f"no usable voice in {self._options.voices}: {reasons or 'it has no file NAME.onnx'}")
        if self._options.default_voice and folder.find(self._options.default_voice) is None:
            raise RuntimeError(f"engines.piper.default_voice: {self._voices.unknown(self._options.default_voice)}")
        self._library.start(device)
        self._library.load(self._folder.voices[self._default])
        for reason in folder.unusable.values():
            _reports.warning("a voice is left out: %s", reason)

    def warm_up(self) -> None:
        """Speak a word with the default voice, if there is one."""
        if not self._default:
            return
        for _ in self.generate([self.validate(EngineJob(id="warm-up", input="Ready."))]):
            continue

    def unload(self) -> None:
        """Free the voices and end the helper processes. Idempotent."""
        self._library.stop()

    def generate(self, jobs: Sequence[EngineJob]) -> Generator[tuple[int, Event], None, None]:
        """Speak the jobs one after the other.

        A voice that is not in memory is loaded first, a second or two.

        Raises:
            Unusable: the file of the job's voice is damaged inside, or was changed; other voices go on.
            SpeakerFailed: the helper process of the voice's language failed.
            TextLost: a word has no sound in the language or the voice.
        """
        for index, job in enumerate(jobs):
            found = self._voices.find(job, self._default)
            assert found is not None, "validated"
            run = Run(job, self._library.open(*found, job), self._capabilities.rate_hz)
            with closing(run.events()) as events:
                for event in events:
                    if job.cancel.cancelled:
                        break
                    yield index, event
