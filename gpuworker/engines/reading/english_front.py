"""US English as a front end: a dictionary, rules and a small network, without espeak-ng.

The phonemes are written as espeak-ng writes US English, for voices were trained on those.
"""

import re
import unicodedata
from typing import Final

from gpuworker.engines.reading import english_text
from gpuworker.engines.reading.lexicon import MAX_LETTERS, Lexicon, Speller
from gpuworker.engines.reading.phonemes import FrontEnd, Phonemes, WordStart
from gpuworker.engines.text import coverage
from gpuworker.engines.text.coverage import Span

#: espeak-ng's name of the language.
LANGUAGE: Final = "en-us"

_TOKEN: Final = re.compile(r"\S+")
_OPENING: Final = "\"'“”‘’«»([{<*_~`|"
_CLOSING: Final = "\"'“”‘’«»)]}>*_~`|,;:!?…"
#: The mark of a clause, for each sign that ends one.
_MARKS: Final = {",": ",", ";": ";", ":": ":", "!": "!", "?": "?", "…": ".", ".": ".", "—": ",", "–": ","}
_VOWELS: Final = "aeiouæɑɐəɛɜɚɪɔʊʌᵻ"
#: Words that are said weakly in a sentence: before a consonant, and before a vowel.
_WEAK: Final = {"the": ("ðə", "ðɪ"), "a": ("ɐ", "ɐ"), "to": ("tə", "tʊ")}
#: misaki's phonemes as espeak-ng writes them, in this order.
_IPA: Final = tuple(
    (re.compile(pattern), ipa)
    for pattern, ipa in (
        (r"ʔn", "ʔn\u0329"),
        (r"ᵊ", "ə"),
        (r"əɹ(?=[ˈˌ]?[AIOWYaeiouæɑəɛɜɪɔʊʌ])", "ɚɹ"),
        (r"əɹ", "ɚ"),
        (r"ɜɹ(?=[ˈˌ]?[AIOWYaeiouæɑəɛɜɪɔʊʌ])", "ɜːɹ"),
        (r"ɜɹ", "ɜː"),
        (r"ɑ", "ɑː"),
        (r"ɔ", "ɔː"),
        (r"u", "uː"),
        # Long where it is stressed, or the word's only vowel.
        (r"(?<=[ˈˌ])i|^([^AIOWYaeiouæɑəɚɛɜɪɔʊʌ]*)i(?=[^AIOWYaeiouæɑəɚɛɜɪɔʊʌ]*$)", r"\1iː"),
        (r"A", "eɪ"),
        (r"I", "aɪ"),
        (r"O", "oʊ"),
        (r"W", "aʊ"),
        (r"Y", "ɔɪ"),
        (r"ʤ", "dʒ"),
        (r"ʧ", "tʃ"),
    )
)
#: Words whose pronunciation depends on their meaning, where the dictionary's first one is not the usual one.
_USUAL: Final = {"live": "lˈɪv", "lives": "lˈɪvz"}
_SIBILANTS: Final = frozenset("szʃʒʧʤ")
_VOICELESS: Final = frozenset("ptkfθ")


class EnglishFrontEnd:
    """Holds the dictionary, 5 MB, and the network, 3 MB, from `start` to `stop`."""

    def __init__(self, fallback: FrontEnd | None = None) -> None:
        """`fallback`, if given, names characters that English has not; it is started when it is needed."""
        self._fallback = fallback
        self._lexicon: Lexicon | None = None
        self._speller: Speller | None = None

    @property
    def pid(self) -> int | None:
        """The helper process of the fallback, if it runs."""
        return self._fallback.pid if self._fallback else None

    def start(self) -> None:
        """Read the data, a quarter of a second. Idempotent."""
        if self._lexicon is None:
            self._lexicon = Lexicon()
            self._speller = Speller()

    def stop(self) -> None:
        """Free the data, and end the fallback. Idempotent."""
        self._lexicon = self._speller = None
        if self._fallback is not None:
            self._fallback.stop()

    def phonemes(self, text: str) -> Phonemes:
        """The phonemes of one sentence."""
        wanted = set(coverage.tokens(text, range(len(text))))
        said: list[tuple[Span, list[str], str]] = []
        unspoken: list[Span] = []
        found = [(match.span(), *_core(match.group())) for match in _TOKEN.finditer(text)]
        for index, (span, core, mark) in enumerate(found):
            if span not in wanted and not english_text.is_sign(core):
                said.append((span, [], mark or _MARKS.get(text[span[0]], "")))
                continue
            before = found[index - 1][1] if index and found[index - 1][2] in {"", "."} else ""
            after = found[index + 1][1] if index + 1 < len(found) and not mark.strip(".") else ""
            words = english_text.words(core, lambda word: self._find(word) is not None, before, after)
            pronounced = [(word, self._pronounce(word)) for word in words]
            said.append((_trimmed(text, span), [phonemes for _, phonemes in pronounced if phonemes], mark))
            if not any(phonemes for _, phonemes in pronounced) or any(
                not phonemes and coverage.is_word(word) for word, phonemes in pronounced
            ):
                unspoken.append(span)
        return _joined(said, unspoken)

    def _find(self, word: str) -> str | None:
        """The dictionary's entry for a word as it is written, in lower case or with a capital."""
        assert self._lexicon is not None, "started"
        if (usual := _USUAL.get(word.lower())) is not None:
            return usual
        for form in dict.fromkeys((word, word.lower(), word.capitalize())):
            if found := self._lexicon.find(form):
                return found
        return None

    def _pronounce(self, word: str) -> str:
        """The phonemes of a word in espeak-ng's letters; "" if it has none."""
        weak = _WEAK.get(word if word == "a" else word.lower() if word != "A" else "")
        if weak is not None:
            return f"{word.lower()}="
        if not re.fullmatch(r"[A-Za-z']+", word):
            return self._foreign(word)
        return _as_ipa(self._find(word) or self._inflected(word) or self._spelled(word))

    def _inflected(self, word: str) -> str | None:
        """A regular plural, possessive or past of a word in the dictionary."""
        lower = word.lower()
        for ending, stems in (
            ("'s", (word[:-2],)),
            ("s'", (word[:-1], word[:-2])),
            ("es", (word[:-1], word[:-2])),
            ("s", (word[:-1],)),
            ("ed", (word[:-1], word[:-2], word[:-3] if lower[-3:-2] == lower[-4:-3] else "")),
        ):
            if lower.endswith(ending) and len(word) > len(ending):
                found = next((phonemes for stem in stems if stem and (phonemes := self._find(stem))), None)
                if found:
                    return found + (_past(found) if ending == "ed" else _plural(found))
        return None

    def _spelled(self, word: str) -> str:
        """By the network; a word beyond its length in pieces."""
        assert self._speller is not None, "started"
        letters = word.strip("'").lower()
        pieces = [letters[at : at + MAX_LETTERS // 2] for at in range(0, len(letters), MAX_LETTERS // 2)]
        return "".join(map(self._speller.spell, pieces))

    def _foreign(self, word: str) -> str:
        if self._fallback is None:
            return ""
        return self._fallback.phonemes(word).symbols.rstrip(".!?,;: ")


def _core(token: str) -> tuple[str, str]:
    """A token without the signs around it, and the mark of a clause that it ends with."""
    core = token.lstrip(_OPENING)
    body = core.rstrip(_CLOSING)
    ending = core[len(body) :]
    if body.endswith(".") and not english_text.keeps_stop(body):
        kept = body.rstrip("." + _CLOSING)
        ending = body[len(kept) :] + ending
        body = kept
    if body and body[-1] in "—–-":
        ending = body[-1].replace("-", "—") + ending
    marks = [_MARKS[sign] for sign in ending if sign in _MARKS]
    return body or token, next((mark for mark in marks if mark in "!?"), marks[0] if marks else "")


def _trimmed(text: str, span: Span) -> Span:
    """The letters and digits of a token, with what stands between them."""
    sounds = [place for place in range(*span) if text[place].isalnum()]
    if not sounds:
        return span
    end = sounds[-1] + 1
    while end < span[1] and unicodedata.combining(text[end]):
        end += 1
    return sounds[0], end


def _joined(said: list[tuple[Span, list[str], str]], unspoken: list[Span]) -> Phonemes:
    """The phonemes of all tokens, with a mark at the end."""
    symbols = ""
    words: list[WordStart] = []
    flat = [(index, phonemes) for index, (_, pronounced, _) in enumerate(said) for phonemes in pronounced]
    last = flat[-1][0] if flat else -1
    for place, (index, phonemes) in enumerate(flat):
        (start, end), _, mark = said[index]
        if not words or words[-1].start != start:
            words.append(WordStart(len(symbols), start, end - start))
        if phonemes.endswith("="):
            following = flat[place + 1][1].lstrip("ˈˌ") if place + 1 < len(flat) else ""
            phonemes = _WEAK[phonemes[:-1]][following[:1] in _VOWELS and bool(following)]  # noqa: PLW2901
        symbols += unicodedata.normalize("NFD", phonemes)
        is_end = place + 1 == len(flat) or flat[place + 1][0] != index
        if is_end and index != last:
            # What follows without a word, as a dash, ends the clause too.
            follows = range(index, flat[place + 1][0])
            mark = next((each for at in follows if (each := said[at][2])), "")
            symbols += "" if mark == "." else mark
        symbols += "" if place + 1 == len(flat) else " "
    if not flat:
        return Phonemes("", unspoken=tuple(unspoken))
    ending = [mark for _, _, mark in said[last:] if mark in {".", "!", "?"}]
    return Phonemes(symbols + (ending[0] if ending else "."), tuple(words), tuple(unspoken))


def _as_ipa(phonemes: str) -> str:
    for pattern, ipa in _IPA:
        phonemes = pattern.sub(ipa, phonemes)
    return phonemes


def _plural(phonemes: str) -> str:
    last = phonemes[-1]
    return "ᵻz" if last in _SIBILANTS else "s" if last in _VOICELESS else "z"


def _past(phonemes: str) -> str:
    last = phonemes[-1]
    return "ᵻd" if last in "td" else "t" if last in _VOICELESS or last in "sʃʧ" else "d"
