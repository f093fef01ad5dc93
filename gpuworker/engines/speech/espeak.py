"""espeak-ng: where the wheel put it, its voices, and its speech, made in a helper process.

The library itself (GPL-3.0-or-later) is loaded by `espeak_process` alone; here only its data files are read.
"""

import importlib.util
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from gpuworker.engine import Completeness, EngineJob, Mark, TextLost
from gpuworker.engines.speech import ssml
from gpuworker.engines.speech.espeak_voices import read_voices
from gpuworker.engines.speech.espeak_words import Words
from gpuworker.engines.speech.library import Sound
from gpuworker.engines.speech.speaker import Speaker, Word
from gpuworker.engines.text import coverage, markup
from gpuworker.engines.text.coverage import Span
from gpuworker.engines.text.parts import Part, halves
from gpuworker.engines.text.plain import plain_parts
from gpuworker.engines.text.spelling import plainer, spell, with_spaces

#: The library's normal speed and its limits, in words per minute.
_NORMAL_WPM: Final = 175
_MIN_WPM: Final = 80
_MAX_WPM: Final = 700
#: A longer document is cut, so that its first sound does not wait for the phonemes of the last.
_MAX_CHARS: Final = 1000
_NO_PCM: Final = np.zeros((0, 1), np.float32)
_LIBRARY_NAMES: Final = {"darwin": "libespeak-ng.dylib"}


@dataclass(frozen=True, slots=True)
class Files:
    """The shared library and the folder of its data."""

    library: Path
    data: Path


def find_espeak() -> Files | None:
    """Find the library in the `espeakng-loader` wheel; None if it is not installed."""
    spec = importlib.util.find_spec("espeakng_loader")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0])
    library = folder / _LIBRARY_NAMES.get(sys.platform, "libespeak-ng.so")
    return Files(library, folder / "espeak-ng-data") if library.exists() else None


def open_espeak() -> "Espeak | None":
    """The installed library, not started; None if there is none."""
    files = find_espeak()
    return Espeak(files) if files else None


def make_speaker(files: Files) -> Speaker:
    """A helper process that will load the library, not started."""
    return Speaker("gpuworker.engines.speech.espeak_process", [str(files.library), str(files.data)])


def make_request(native_voice: str, params: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """A request to `espeak_process`, without its `text` and `ssml`."""
    return {
        "voice": native_voice,
        "rate_wpm": words_per_minute(params["speed"]),
        "pitch": round(params["pitch"]),
        "range": round(params["range"]),
        "volume": round(params["volume"]),
        "seed": seed,
    }


def words_per_minute(speed: float) -> int:
    """1.0 is 175 words per minute. The library does 80 to 700: a `speed` under 0.46 sounds as 0.46."""
    return min(_MAX_WPM, max(_MIN_WPM, round(_NORMAL_WPM * speed)))


class Espeak:
    """A `Library`."""

    default_voice = "en-us"
    completeness = Completeness.WORDS
    licence = "GPL-3.0-or-later"

    def __init__(self, files: Files) -> None:
        self._known = read_voices(files.data)
        self._speaker = make_speaker(files)
        self.voices = self._known.listed()

    @property
    def pid(self) -> int | None:
        """The helper process, if it runs."""
        return self._speaker.pid

    def find(self, voice: str) -> str | None:
        """The id of a voice, `en` or `de+F3`; None if it is not one of this library's."""
        return self._known.find(voice)

    def similar(self, voice: str) -> Iterable[str]:
        """Names to choose a suggestion from, for a voice that was not found."""
        return self._known.similar(voice)

    def check(self, job: EngineJob) -> None:
        """Raises Rejected for SSML that cannot be spoken."""
        if ssml.is_document(job.input):
            ssml.parts(job.input, self._known.in_document)

    def parts(self, job: EngineJob) -> Iterable[Part]:
        """The parts of a plain text or an SSML document, in order."""
        is_document = ssml.is_document(job.input)
        return (
            ssml.parts(job.input, self._known.in_document)
            if is_document
            else plain_parts(job, self._known.language(job.voice))
        )

    def facts(self, job: EngineJob) -> Mapping[str, Any]:
        """The pace that was spoken."""
        return {"words_per_minute": words_per_minute(job.params["speed"])}

    def start(self) -> None:
        """Start the helper process. Idempotent. Raises SpeakerFailed."""
        self._speaker.start()

    def stop(self) -> None:
        """End the helper process and every utterance in it. Idempotent."""
        self._speaker.stop()

    def speak(self, job: EngineJob, part: Part, frame: int) -> Generator[Sound, None, None]:
        """One part of `job` with its words, in pieces of about 60 ms. Raises SpeakerFailed, TextLost.

        Words that the library left out at the end are spoken behind the others, each alone. Those that it left out
        before other words cannot be: their turn is over.
        """
        waiting = [spell(part, self._known.language(job.voice))]
        gone: list[Span] = []
        while waiting:
            part = waiting.pop(0)
            if len(part.body) > _MAX_CHARS and (smaller := markup.halves(part)):
                waiting[:0] = smaller
                continue
            report: dict[str, Any] = {}
            with closing(self._utter(job, part, frame, report.update)) as sounds:
                for sound in sounds:
                    frame += len(sound.pcm)
                    yield sound
            again = Again.of(part, report)
            if again.skipped:
                yield Sound(_NO_PCM, (), again.skipped)
            waiting[:0] = again.parts
            gone += again.gone
        if gone:
            raise TextLost(job.input, sorted(gone), f"the voice {job.voice}")

    def _utter(
        self, job: EngineJob, part: Part, frame: int, on_report: Callable[[Mapping[str, Any]], None]
    ) -> Generator[Sound, None, None]:
        """Speak `part` once, as it is."""
        is_document = ssml.is_document(part.text)
        request = make_request(self._known.native(job.voice), job.params, job.seed)
        plain = markup.plain(part.text) if is_document else part.text
        request |= {
            "text": part.text,
            "ssml": is_document,
            "end_pause": not part.pause_ms,
            "plain": plain,
            "tokens": coverage.tokens(plain, part.body),
        }
        words = Words(part.text, is_document=is_document)
        place = -1
        with closing(self._speaker.speak(request, on_report)) as pieces:
            for piece in pieces:
                marks = []
                for word in words.locate(piece.words):
                    mark = _mark(part, word, frame) if word.start in part.body else None
                    # `℃` is one character of the original and two words.
                    if mark is not None and mark.length and mark.start > place:
                        marks.append(mark)
                        place = mark.start
                pcm = np.frombuffer(piece.pcm, "<i2").astype(np.float32) / np.float32(32768)
                yield Sound(pcm.reshape(-1, 1), tuple(marks))


def _mark(part: Part, word: Word, frame: int) -> Mark:
    start, end = part.span(word.start, min(word.start + word.length, part.body.stop))
    return Mark(frame + word.frame, "word", start, end - start)


class Again(NamedTuple):
    """How to go on with text that was not spoken."""

    #: Parts to speak again.
    parts: Sequence[Part] = ()
    #: In the original: tokens that are no words, and words that were not spoken although they were alone.
    skipped: tuple[Span, ...] = ()
    gone: Sequence[Span] = ()

    @classmethod
    def of(cls, part: Part, report: Mapping[str, Any]) -> "Again":
        """`report`: the helper's, about `part`."""
        cut = markup.halves if ssml.is_document(part.text) else halves
        if report.get("is_too_long"):
            parts = cut(part)
            return cls(parts, gone=() if parts else [part.span(part.body.start, part.body.stop)])
        if long_words := report.get("long_words"):
            return cls([with_spaces(part, [(start + end) // 2 for start, end in long_words])])
        if silent := report.get("silent"):
            other = plainer(part, silent)
            return cls([other]) if other else cls(gone=[part.span(*span) for span in silent])
        lost: list[Span] = [(start, end) for start, end in report.get("unspoken", ())]
        words = [span for span in lost if coverage.is_word(part.text[slice(*span)])]
        skipped = tuple(part.span(*span) for span in lost if span not in words)
        plain = markup.plain(part.text) if ssml.is_document(part.text) else part.text
        tokens = coverage.tokens(plain, part.body)
        spoken = max((span for span in tokens if span not in lost), default=(part.body.start, part.body.start))
        late = [span for span in words if span < spoken]
        behind = [span for span in words if span > spoken]
        if late or tokens == words[:1]:
            return cls((), skipped, [part.span(*span) for span in words])
        return cls([part.stretch(*span) for span in behind], skipped)
