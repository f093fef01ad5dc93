"""The most audio that a job can make, known before it runs: a card declares it, gateways and workers evaluate it.

Imports nothing of ours but `bus.ssml`, because engines import this module.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from bus import ssml

_Seconds = Annotated[float, Meta(ge=0, le=1e9)]
_Factor = Annotated[float, Meta(gt=0, le=1e3)]


class SecondsParam(msgspec.Struct, frozen=True, kw_only=True, tag="param", omit_defaults=True):
    """The length is a parameter of the job, in seconds."""

    #: Its name in `params`.
    param: str
    #: Of a job without it.
    default_s: _Seconds

    @property
    def path(self) -> str:
        """Dotted name of the field that decides the length."""
        return f"params.{self.param}"


class SpokenText(msgspec.Struct, frozen=True, kw_only=True, tag="text", omit_defaults=True):
    """The length follows from the characters of a spoken text. Weights are seconds at normal speed.

    A text is the sum of its words and characters, multiplied by the voice's pace and divided by the speed.
    """

    #: Of any text, before its first and after its last word.
    lead_s: _Seconds
    #: Of each word, beside its letters.
    word_s: _Seconds
    #: Of a character, by class: `letter` in a word that is read as one, else as `class_of` says. `letter` and `other`
    #: must be listed; `other` stands for classes that are not.
    weights: dict[str, _Seconds]
    #: Of a character of a script that the voice reads, by script.
    native: dict[str, _Seconds] = {}
    #: The scripts besides Latin that a voice reads, by voice.
    reads: dict[str, list[str]] = {}
    #: Multiplies the length, by voice, `+variant` cut off; 1 for those that are not listed.
    pace: dict[str, _Factor] = {}
    #: Multiplies the length of a voice with a variant.
    variant_pace: _Factor = 1.0
    #: The parameter that divides the length; "": none.
    speed_param: str = ""
    #: Beyond these, the speed makes no more difference.
    min_speed: _Factor = 1.0
    max_speed: _Factor = 1.0
    #: Multiplies the length of an SSML document that changes how its text is read: its rate, its voice, spelled out.
    ssml_pace: _Factor = 1.0
    #: The parameter by which a text that is not SSML has breaks; "": none.
    breaks_param: str = ""
    #: Of a `<break>`, beside the time that it names; no speed changes either.
    break_s: _Seconds = 0.0

    @property
    def path(self) -> str:
        """Dotted name of the field that decides the length."""
        return "input"

    def seconds(self, text: str, voice: str, params: Mapping[str, Any]) -> float:
        """The most seconds of `text`. The markup of an SSML document counts as text: attributes may be spoken."""
        base, plus, _ = voice.casefold().partition("+")
        total_s = self.lead_s + self._text_s(text, self.reads.get(base, ()))
        pace = self._pace_of(base) * (self.variant_pace if plus else 1.0)
        breaks_s = 0.0
        is_document = ssml.is_document(text)
        if is_document or (self.breaks_param and params.get(self.breaks_param)):
            breaks_s = sum(self.break_s + _requested_s(tag) for tag in _BREAK.findall(text))
        if is_document:
            pace *= self.ssml_pace if _CHANGES.search(text) else 1.0
        given = params.get(self.speed_param)
        speed = float(given) if isinstance(given, int | float) else 1.0  # the model's schema refuses all else
        return total_s * pace / min(self.max_speed, max(self.min_speed, speed)) + breaks_s

    def _pace_of(self, voice: str) -> float:
        """The pace of a voice, or of the slowest that its name stands for: `fa` for its `fa-…`."""
        if voice in self.pace:
            return self.pace[voice]
        return max((pace for name, pace in self.pace.items() if name.startswith(f"{voice}-")), default=1.0)

    def _text_s(self, text: str, scripts: Collection[str]) -> float:
        """At normal speed, by a voice that reads `scripts`."""
        num_words, num_letters, rest = 0, 0, []
        # A long text repeats most of its words.
        for word, count in Counter(text.split()).items():
            if _PLAIN.fullmatch(word) is None:
                rest += [word] * count
            else:
                num_words += count
                num_letters += count * len(word)
        mixed = " ".join(rest)
        plain = _PLAIN.findall(mixed)
        mixed = _PLAIN.sub(" ", mixed)
        num_words += len(plain) + len(_OTHER.findall(mixed))
        num_letters += len("".join(plain))
        total_s = num_words * self.word_s + num_letters * self.weights["letter"]
        for char, count in Counter(mixed).items():
            if char != " ":
                total_s += count * self._weight_s(class_of(char), scripts)
        return total_s

    def _weight_s(self, kind: str, scripts: Collection[str]) -> float:
        other_s = self.weights["other"]
        return self.native.get(kind, other_s) if kind in scripts else self.weights.get(kind, other_s)


Bound = SecondsParam | SpokenText

#: A word of Latin letters that is read as one, not by the names of its letters: it has a vowel, nowhere five consonants
#: in a row, no capitals but the first letter, and is no longer than most words are.
_PLAIN: Final = re.compile(
    r"(?<![^\W_])(?=[AEIOUY]|[A-Za-z]?[a-z]*[aeiouy])(?![A-Za-z]?[a-z]*[b-df-hj-np-tv-xz]{5})"
    r"[A-Za-z][a-z]{0,15}(?![^\W_])"
)
#: Anything else between blanks; letters and other characters apart.
_OTHER: Final = re.compile(r"[A-Za-z]+|[^\sA-Za-z]+")
_BREAK: Final = re.compile(r"<break\b[^>]*")
_TIME: Final = re.compile(r"""\btime\s*=\s*["']?\s*\+?([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(ms)?""")
_CHANGES: Final = re.compile(r"<(?:prosody|say-as|voice)\b|\blang\b")
#: First and last code point of scripts, by name.
_SCRIPTS: Final = (
    ("extended", 0xC0, 0x17F),
    ("greek", 0x370, 0x3FF),
    ("cyrillic", 0x400, 0x52F),
    ("armenian", 0x530, 0x58F),
    ("hebrew", 0x590, 0x5FF),
    ("arabic", 0x600, 0x77F),
    ("indic", 0x900, 0xDFF),
    ("thai", 0xE00, 0xE7F),
    ("georgian", 0x10A0, 0x10FF),
    ("ethiopic", 0x1200, 0x139F),
    ("extended", 0x1E00, 0x1EFF),
    ("mark", 0x300, 0x36F),
    ("greek", 0x1F00, 0x1FFF),
    ("kana", 0x3040, 0x30FF),
    ("han", 0x3400, 0x4DBF),
    ("han", 0x4E00, 0x9FFF),
    ("hangul", 0xAC00, 0xD7A3),
)
_PAUSES: Final = frozenset(".,;:?'\"()-\u2013\u2014\u2018\u2019\u201c\u201d\u2026\u00ab\u00bb\u3001\u3002")


def class_of(char: str) -> str:
    """The class of a character.

    `spelled` is a Latin letter, `double_u` that one, `extended` a Latin letter that ASCII has not, `mark` a combining
    one; `digit`, `pause`, `exclamation`, `symbol`; the name of a script; or `other`.
    """
    code = ord(char)
    if char == "!":  # some voices read it out where it stands alone
        return "exclamation"
    if char in _PAUSES:
        return "pause"
    if code < 0x80:
        if char in "wW":  # its name is the longest of them in most languages
            return "double_u"
        return "digit" if char.isdigit() else "spelled" if char.isalpha() else "symbol"
    return next((name for name, first, last in _SCRIPTS if first <= code <= last), "other")


def _requested_s(tag: str) -> float:
    """The time that a `<break` names, in seconds; 0 if it names none. The engine may refuse it."""
    return max((float(time) / (1000 if unit else 1) for time, unit in _TIME.findall(tag)), default=0.0)
