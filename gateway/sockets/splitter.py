"""A text that arrives piece by piece, cut where it can be spoken piece by piece.

Nothing is lost: what comes out, joined, is what went in, and where the text was cut on its way here changes nothing. A
sentence is given once it is sure to be one, which is with the first letter of the next: `Dr.` may go on, and so may
`3.`, `Wait...` and `Stop!" he said`. The rules know no language; they weigh marks, spaces, letter case, and short lists
of words.
"""

import re
import unicodedata
from typing import Final, Literal

Granularity = Literal["none", "sentence", "clause"]

#: Longest piece, in characters: about twenty seconds of speech.
MAX_CHARS: Final = 300

#: End a sentence wherever they stand: their scripts put no space behind them.
_WIDE: Final = "。！？｡"  # noqa: RUF001
#: End a sentence when white space follows.
_NARROW: Final = "!?…؟۔।॥։።፧။។༎"  # noqa: RUF001
_CLOSERS: Final = "\"')\\]}»”’›」』）】*_"  # noqa: RUF001
_OPENERS: Final = "\"'(\\[{«“‘„‚‹「『（【¿¡*_-"  # noqa: RUF001
#: Pause within a sentence: wherever they stand, and when white space follows.
_WIDE_PAUSES: Final = "、，；："  # noqa: RUF001
_PAUSES: Final = ",;:،؛—"

_SENTENCE: Final = (
    rf"(?P<wide>[{_WIDE}][{_WIDE}{_NARROW}.]*[{_CLOSERS}]*\s*)"
    rf"|(?P<narrow>[{_NARROW}.]+[{_CLOSERS}]*(?:\s+|\Z))"
    r"|(?P<line>\n\s*)"
)
_CLAUSE: Final = rf"|(?P<pause>[{_WIDE_PAUSES}][{_CLOSERS}]*\s*|[{_PAUSES}]+[{_CLOSERS}]*(?:\s+|\Z))"
_BREAKS: Final = {"sentence": re.compile(_SENTENCE), "clause": re.compile(_SENTENCE + _CLAUSE)}
#: What stands before the first letter of what follows.
_LEAD: Final = re.compile(rf"[{_OPENERS}]*")
_WORD_BREAK: Final = re.compile(r"[\s(\[\"'“‘«—–-]")  # noqa: RUF001
#: A pause that good speech would make: behind a comma or a space, not before half of what fits.
_CUT_PAUSE: Final = re.compile(rf"[{_PAUSES}]\s+|[{_WIDE_PAUSES}]\s*")
_CUT_SPACE: Final = re.compile(r"\s+")
# fmt: off
#: Without their last full stop.
_ABBREVIATIONS: Final = frozenset((
    "al", "approx", "apr", "asst", "aug", "ave", "bd", "bldg", "blvd", "bzw", "ca", "cap", "capt", "cf", "cmdr", "co",
    "col", "corp", "dept", "dipl", "dr", "dra", "ed", "eds", "esp", "est", "et", "etc", "evtl", "ext", "feb", "fig",
    "figs", "fr", "ft", "gen", "ggf", "gov", "hon", "hr", "inc", "ing", "jan", "jr", "jul", "jun", "lt", "ltd", "mag",
    "messrs", "mlle", "mme", "mr", "mrs", "ms", "mt", "mwst", "nov", "oct", "okt", "op", "pp", "prof", "pvt", "rep",
    "rev", "sen", "sep", "sept", "sgt", "sig", "sog", "sr", "sra", "srta", "st", "str", "tel", "usw", "vgl", "viz",
    "vol", "vs", "zzgl",
))
#: The same, where a number follows: `No. 5`, and yet `No. I will not`.
_BEFORE_NUMBERS: Final = frozenset(("abs", "art", "ch", "eq", "no", "nos", "nr", "núm", "p", "par", "sec", "ver"))
#: Words before a day: `am 3. Oktober`, `der 2. Weltkrieg`.
_BEFORE_ORDINALS: Final = frozenset((
    "ab", "am", "bis", "das", "dem", "den", "der", "des", "die", "dne", "im", "ins", "jeder", "jedes", "und", "vom",
    "zum", "zur",
))
# fmt: on
#: `e.g`, `p.m`, `z.B`, `U.S.A`, `Ph.D`.
_DOTTED: Final = re.compile(r"\w{1,2}(?:\.\w{1,2})+")
#: A line this long was broken to fit a page, not to end something.
_WRAPPED_LINE_CHARS: Final = 50
#: Shorter clauses are spoken with the next one. A character of a wide script counts as three.
_MIN_CLAUSE_WEIGHT: Final = 24
_FIRST_WIDE: Final = "\u2e80"


class Splitter:
    """Takes text, gives pieces of at most `max_chars`. `none`: a piece is whatever came until `finish`, of any length.

    A piece keeps the white space behind it; only the first, or one of nothing else, begins with any.
    """

    def __init__(self, granularity: Granularity = "sentence", max_chars: int = MAX_CHARS) -> None:
        self._break, self._max_chars = _BREAKS.get(granularity), max_chars
        self._text = ""
        #: Where the first mark may be that has not been judged.
        self._from = 0
        #: For `none`: what came, uncopied.
        self._parts: list[str] = []
        self._num_part_chars = 0

    @property
    def num_held_chars(self) -> int:
        """What came and has not been given."""
        return len(self._text) + self._num_part_chars

    def feed(self, text: str) -> list[str]:
        """The pieces that are sure by now."""
        if not text:
            return []
        if self._break is None:
            self._parts.append(text)
            self._num_part_chars += len(text)
            return []
        self._text += text
        given: list[str] = []
        start = 0
        while (end := self._next_end(start, self._break)) is not None:
            given.append(self._text[start:end])
            start = self._from = end
        # One copy for all of them: a book in one message is not copied once per sentence.
        self._text, self._from = self._text[start:], self._from - start
        return given

    def finish(self) -> list[str]:
        """All that is left; it may be white space. The splitter is as new."""
        left = "".join(self._parts) + self._text
        self._parts, self._num_part_chars, self._text, self._from = [], 0, "", 0
        return [left] if left else []

    def _next_end(self, start: int, breaks: re.Pattern[str]) -> int | None:
        """Where the piece that begins at `start` ends; None if nobody can know yet."""
        text, last = self._text, start + self._max_chars
        while True:
            found = breaks.search(text, self._from, last + 1)
            if found is None or found.end() > last:
                break
            following = _following(text, found.end(), last + 1)
            if following is None:
                # It may become longer, or be followed by anything.
                self._from = found.start()
                return None
            if text[start : found.end()].strip() and _ends(text, start, found, following):
                return found.end()
            self._from = found.end()
        if len(text) > last:
            return _cut(text, start, self._max_chars)
        self._from = len(text)
        return None


def _following(text: str, end: int, limit: int) -> str | None:
    """The first character behind `end` that opens nothing, or the one before `limit`; None if it has not come."""
    lead = _LEAD.match(text, end, limit)
    place = min(lead.end() if lead else end, limit - 1)
    return text[place] if place < len(text) else None


def _ends(text: str, start: int, found: re.Match[str], following: str) -> bool:
    """Whether the piece from `start` is over behind `found`."""
    mark = found.group()
    if found.lastgroup == "pause":
        said = text[start : found.end()].strip()
        return sum(3 if char >= _FIRST_WIDE else 1 for char in said) >= _MIN_CLAUSE_WEIGHT
    if found.lastgroup == "wide" or mark.count("\n") > 1:
        return True
    if found.lastgroup == "line":
        line = text[max(start, text.rfind("\n", start, found.start()) + 1) : found.start()]
        return len(line) < _WRAPPED_LINE_CHARS and not following.islower()
    if following.islower():
        return False
    return not mark.startswith(".") or mark.startswith("..") or not _abbreviates(text, start, found.start(), following)


def _abbreviates(text: str, start: int, dot: int, following: str) -> bool:
    """Whether the full stop at `dot` belongs to the word before it: `Dr.`, the `J.` of a name, the `1.` of a list."""
    head = text[max(start, dot - 40) : dot]
    words = _WORD_BREAK.split(head)
    word, before = words[-1], words[-2].casefold() if len(words) > 1 else ""
    if len(word) == 1 and word.isupper() and word != "I":
        return True
    if word.isdigit():
        line = head[: -len(word)].rstrip(" \t")
        return len(word) <= 2 and (not line or line.endswith("\n") or before in _BEFORE_ORDINALS)
    folded = word.casefold()
    return (
        folded in _ABBREVIATIONS
        or (folded in _BEFORE_NUMBERS and following.isdigit())
        or _DOTTED.fullmatch(word) is not None
    )


def _cut(text: str, start: int, max_chars: int) -> int:
    """Where to cut a piece that is too long: behind a pause, else behind a space, else not before a combining mark."""
    last, half = start + max_chars, start + max_chars // 2
    for pattern in (_CUT_PAUSE, _CUT_SPACE):
        cut = max((found.end() for found in pattern.finditer(text, half, last)), default=0)
        if cut > half:
            return cut
    cut = last
    while cut > half and cut < len(text) and (unicodedata.combining(text[cut]) or text[cut] in "\u200d\ufe0f"):
        cut -= 1
    return cut
