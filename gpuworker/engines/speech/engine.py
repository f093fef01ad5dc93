"""Speech: espeak-ng's languages and, where its library is found, flite's English voices.

A text is spoken sentence by sentence, each by a fresh copy of the library, so the sound of a sentence does not depend
on the text before it: any worker makes the same bytes, and a stream goes on from the sentence that a checkpoint names.
The libraries run in helper processes (`speaker.py`); this module loads neither.
"""

import functools
from collections.abc import Generator, Hashable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import msgspec

from bus.quality import SPEECH
from bus.ssml import BadBreak, check_breaks
from bus.text import did_you_mean
from gpuworker.engine import (
    Capabilities,
    Completeness,
    Determinism,
    EngineJob,
    Estimate,
    Event,
    MemoryPolicy,
    Rejected,
    Requirement,
    Resume,
    check_text,
)
from gpuworker.engines.speech.bound import spoken_text
from gpuworker.engines.speech.espeak import open_espeak
from gpuworker.engines.speech.flite import open_flite
from gpuworker.engines.speech.library import DEFAULTS, RATE_HZ, Library
from gpuworker.engines.speech.run import Run

_MAX_INPUT_CHARS = 200_000
#: espeak-ng cuts consonants into zeros before a burst or a pause; a vowel that is cut is louder.
_LIMITS = msgspec.structs.replace(SPEECH, dropout_edge_dbfs=-16.0)
_SCHEMA: Mapping[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "speed": {
            "type": "number",
            "minimum": 0.25,
            "maximum": 4,
            "default": 1.0,
            "description": "1 is 175 words per minute; espeak voices go no slower than 80 (0.46)",
        },
        "pitch": {
            "type": "number",
            "minimum": 0,
            "maximum": 100,
            "default": 50,
            "description": "0 is about an octave below the voice's own, 100 above",
        },
        "range": {
            "type": "number",
            "minimum": 0,
            "maximum": 100,
            "default": 50,
            "description": "how far the melody goes up and down, 0 is monotone; espeak voices only",
        },
        "volume": {"type": "number", "minimum": 0, "maximum": 200, "default": 100, "description": "per cent"},
        "text": {
            "type": "string",
            "enum": ["plain", "markdown"],
            "default": "plain",
            "description": "markdown: its marks are not read aloud; an SSML document is neither",
        },
        "breaks": {
            "type": "boolean",
            "default": False,
            "description": 'whether <break time="1.5s"/> in a text that is not SSML is a pause, of 10 s at most',
        },
    },
}
#: Control characters except white space; halves of surrogate pairs.
_LIBRARY = Requirement(
    "antiphon[espeak]", module="espeakng_loader", otherwise=(Requirement("apt-get install libflite1", library="flite"),)
)
#: Estimates: speech has about 14 characters a second and takes about a hundredth of its length, start included.
_CHARS_PER_S = 14
_COST_PER_S = 0.01


class Speech:
    """The engine. Owns one helper process for each library, from `load` or a voice's first job to `unload`."""

    def __init__(self) -> None:
        opened = (open_espeak(), open_flite())
        #: The first one has the default voice.
        self._libraries: list[Library] = [library for library in opened if library is not None]

    def capabilities(self) -> Capabilities:
        """The voices and the licence are those of the libraries that are installed."""
        return self._capabilities

    @functools.cached_property
    def _capabilities(self) -> Capabilities:
        voices = tuple(voice for library in self._libraries for voice in library.voices)
        ids = {voice.id for voice in voices}
        knows = any(library.completeness == Completeness.WORDS for library in self._libraries)
        preferred = (library.default_voice for library in self._libraries)
        return Capabilities(
            name="speech",
            kind="speech",
            rate_hz=RATE_HZ,
            channels=1,
            resume=Resume.CHECKPOINT,
            determinism=Determinism.SAME_BUILD,
            param_schema=_SCHEMA,
            max_input_chars=_MAX_INPUT_CHARS,
            voices=voices,
            default_voice=next((voice for voice in preferred if voice in ids), min(ids, default="")),
            completeness=Completeness.WORDS if knows else Completeness.NONE,
            licence=" AND ".join(["Apache-2.0", *(library.licence for library in self._libraries)]),
            ssml=True,
            bound=spoken_text(),
            quality=_LIMITS,
            requires=(_LIBRARY,),
        )

    @property
    def helper_pids(self) -> list[int]:
        """The helper processes that run, espeak-ng's first."""
        return [library.pid for library in self._libraries if library.pid is not None]

    def validate(self, job: EngineJob) -> EngineJob:
        """`job` with the id of its voice and its params filled in. Raises Rejected."""
        text = job.input
        check_text(text, _MAX_INPUT_CHARS)
        library, voice = self._find(job.voice or self._capabilities.default_voice)
        valid = replace(job, voice=voice, params={**DEFAULTS, **job.params})
        if valid.params["breaks"]:
            try:
                check_breaks(text)
            except BadBreak as error:
                raise Rejected("input", f"has a wrong pause: {error}") from error
        library.check(valid)
        return valid

    def _find(self, voice: str) -> tuple[Library, str]:
        """The library that has a voice, and the voice's id. Raises Rejected."""
        for library in self._libraries:
            found = library.find(voice)
            if found is not None:
                return library, found
        similar = [name for library in self._libraries for name in library.similar(voice)]
        raise Rejected("voice", f"{voice!r} is not known{did_you_mean(voice.casefold(), similar, limit=3)}")

    def estimate(self, job: EngineJob, batch: int = 1) -> Estimate:
        """The length is not known beforehand; the cost is a rough figure from the number of characters."""
        speed: float = job.params.get("speed", DEFAULTS["speed"])
        seconds = len(job.input) / _CHARS_PER_S / speed
        return Estimate(device_bytes=0, seconds=None, cost_s=0.005 + seconds * _COST_PER_S)

    def batch_key(self, job: EngineJob) -> Hashable | None:
        """None: every job runs alone."""
        return None

    def load(self, device: str, policy: MemoryPolicy) -> None:
        """Start the default voice's library; it runs on the CPU, whatever `device` is.

        Raises:
            RuntimeError: no library is installed; the text says how to install one.
            SpeakerFailed: the library did not start.
        """
        if not self._libraries:
            raise RuntimeError(
                "no speech library is installed: `pip install 'antiphon[espeak]'` brings espeak-ng (GPL-3.0-or-later); "
                "flite is used where the system has it (Debian's libflite1)"
            )
        self._libraries[0].start()

    def warm_up(self) -> None:
        """Speak a word with the default voice."""
        for _ in self.generate([self.validate(EngineJob(id="warm-up", input="Ready."))]):
            continue

    def unload(self) -> None:
        """End the helper processes. Idempotent."""
        for library in self._libraries:
            library.stop()

    def generate(self, jobs: Sequence[EngineJob]) -> Generator[tuple[int, Event], None, None]:
        """Speak the jobs one after the other. Raises SpeakerFailed; the next job then gets a fresh helper process."""
        for index, job in enumerate(jobs):
            library, _ = self._find(job.voice)
            with closing(Run(library, job).events()) as events:
                for event in events:
                    if job.cancel.cancelled:
                        break
                    yield index, event
