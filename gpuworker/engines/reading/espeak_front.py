"""espeak-ng as a front end: phonemes of any of its languages, from a helper process."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from gpuworker.engines.reading.alignment import align
from gpuworker.engines.reading.phonemes import Phonemes, WordStart, tokens
from gpuworker.engines.speech.espeak import Files
from gpuworker.engines.speech.speaker import Speaker, SpeakerFailed
from gpuworker.engines.text.coverage import Span

#: The mark that ends a clause, before the character that the library has looked at besides.
_END_MARK: Final = re.compile(r"([,;:?!.])[\s\"')\]»”’]*.?$", re.DOTALL)
#: Marks of other scripts, which voices know under the Latin ones.
_MARKS: Final = str.maketrans("。．？！，、；：؟،؛।", "..?!,,;:?,;.")
#: A change of language within a clause: `(en)download(de)`.
_SWITCH: Final = re.compile(r"\([a-z]{2,}(?:-[a-z0-9]+)*\)")
_STRESS: Final = "ˈˌ"


class EspeakFrontEnd:
    """Owns a helper process from `start` or the first text to `stop`."""

    def __init__(self, files: Files, language: str) -> None:
        """`language`: as espeak-ng names it."""
        self._language = language
        arguments = [str(files.library), str(files.data)]
        self._speaker = Speaker("gpuworker.engines.speech.phoneme_process", arguments)

    @property
    def pid(self) -> int | None:
        """The helper process, if it runs."""
        return self._speaker.pid

    def start(self) -> None:
        """Start the helper process. Idempotent. Raises SpeakerFailed."""
        self._speaker.start()

    def stop(self) -> None:
        """End the helper process. Idempotent."""
        self._speaker.stop()

    def phonemes(self, text: str) -> Phonemes:
        """The phonemes of one sentence. A helper that died is replaced once. Raises SpeakerFailed."""
        spans = tokens(text)
        if not spans:
            return Phonemes("")
        answer = self._request(text, tokens=spans)
        if "is_too_long" in answer:
            return Phonemes("", unspoken=tuple(spans))
        symbols = _joined(answer["clauses"])
        found = _find_words(symbols, [_clean(ipa) for ipa in answer["of_tokens"]])
        words = [
            WordStart(word.start, start, end - start)
            for word, (start, end) in zip(found, spans, strict=True)
            if word.start is not None
        ]
        # A word alone may sound unlike itself in a sentence (`a`), so those that were not found are looked at closely.
        suspects = [span for word, span in zip(found, spans, strict=True) if not word.is_found]
        unspoken = self._request(text, suspects=suspects)["unspoken"] if suspects else []
        lost = {(start, end) for start, end in (*unspoken, *answer["silent"])}
        return Phonemes(symbols, tuple(words), tuple(sorted(lost)))

    def _request(self, text: str, **of_text: Sequence[Span]) -> Mapping[str, Any]:
        request = {"text": text, "voice": self._language, **of_text}
        report: dict[str, Any] = {}
        for is_last in (False, True):
            try:
                for _ in self._speaker.speak(request, report.update):
                    continue
            except SpeakerFailed:  # nothing was lost but the answer: a fresh helper gives it again
                if is_last:
                    raise
            else:
                break
        return report


def _joined(clauses: Sequence[tuple[str, str]]) -> str:
    """The clauses of one sentence, (phonemes, text) each, with the marks between them and one at the end."""
    spoken = [(_clean(phonemes), text) for phonemes, text in clauses if phonemes.strip()]
    joined = ""
    for index, (phonemes, text) in enumerate(spoken):
        is_last = index == len(spoken) - 1
        found = _END_MARK.search(text.translate(_MARKS))
        mark = found.group(1) if found else ""
        if mark == "." and not is_last:  # an abbreviation's: this is one sentence
            mark = ""
        joined += phonemes + (mark or ("." if is_last else "")) + ("" if is_last else " ")
    return joined


def _clean(phonemes: str) -> str:
    return unicodedata.normalize("NFD", _SWITCH.sub("", phonemes)).strip()


class _Found(NamedTuple):
    """Where a word is in the symbols of its sentence; `start` is None if its first phoneme is another one there."""

    start: int | None
    is_found: bool


def _find_words(symbols: str, words: Sequence[str]) -> list[_Found]:
    """Find each word, given by its phonemes when it is spoken alone, in `symbols`, in order.

    Stress moves in a sentence, and `of the` is one word without a blank: so what is compared are the letters.
    """
    letters = [place for place, symbol in enumerate(symbols) if symbol.isalpha()]
    sought = ["".join(symbol for symbol in word if symbol.isalpha()) for word in words]
    matched = align("".join(symbols[place] for place in letters), "".join(sought))
    found: list[_Found] = []
    at = 0
    for word in sought:
        place = letters[matched[at]] if word and at in matched else None
        while place and symbols[place - 1] in _STRESS:
            place -= 1
        found.append(_Found(place, any(at + index in matched for index in range(len(word)))))
        at += len(word)
    return found
