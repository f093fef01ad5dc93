"""Cuts a text into sentences, or clauses, that can be spoken one by one. Imports the standard library only.

Engines cut whole texts with `sentences`; sockets cut a text that arrives in parts with `find_end`. The rules are the
same, and so are the places. Nothing is lost: the pieces joined are the text. White space behind a piece belongs to it.
The rules weigh marks, spaces, letter case and, by language where it is known, short lists of abbreviations.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final, Literal

from bus import ssml
from bus.abbreviations import BEFORE_NUMBERS, abbreviations, before_ordinals

Granularity = Literal["sentence", "clause"]

#: Longest piece, in characters: about twenty seconds of speech.
MAX_CHARS: Final = 300

#: These end a sentence wherever they stand: their scripts put no space behind them.
_WIDE: Final = "。！？｡"  # noqa: RUF001
#: These end a sentence when white space follows.
_NARROW: Final = "!?…؟۔।॥։።፧။។༎"  # noqa: RUF001
_CLOSERS: Final = "\"')\\]}»”’›」』）】*_"  # noqa: RUF001
_OPENERS: Final = "\"'(\\[{«“‘„‚‹「『（【¿¡*_-"  # noqa: RUF001
#: These pause within a sentence: the wide ones wherever they stand, the others when white space follows.
_WIDE_PAUSES: Final = "、，；："  # noqa: RUF001
_PAUSES: Final = ",;:،؛—"

#: A line break is a blank. Several are the end of a paragraph, and so is a form feed.
_PARAGRAPH: Final = re.compile(r"\n[^\S\n]*\n|[\f\u2029]")
_SENTENCE: Final = (
    rf"(?P<wide>[{_WIDE}][{_WIDE}{_NARROW}.]*[{_CLOSERS}]*\s*)"
    rf"|(?P<narrow>[{_NARROW}.]+[{_CLOSERS}]*(?:\s+|\Z))"
    r"|(?P<line>[\n\f\u2029]\s*)"
)
_CLAUSE: Final = rf"|(?P<pause>[{_WIDE_PAUSES}][{_CLOSERS}]*\s*|[{_PAUSES}]+[{_CLOSERS}]*(?:\s+|\Z))"
_BREAKS: Final = {"sentence": re.compile(_SENTENCE), "clause": re.compile(_SENTENCE + _CLAUSE)}
#: Characters that may stand between a break and the first letter of the next piece.
_LEAD: Final = re.compile(rf"[{_OPENERS}]*")
_WORD_BREAK: Final = re.compile(r"[\s(\[\"'“‘«—–-]")  # noqa: RUF001
#: A pause that good speech would make: behind a comma or a space, not before half of the longest piece.
_CUT_PAUSE: Final = re.compile(rf"[{_PAUSES}]\s+|[{_WIDE_PAUSES}]\s*")
_CUT_SPACE: Final = re.compile(r"\s+")
#: Matches `e.g`, `p.m`, `z.B`, `U.S.A`, `Ph.D`.
_DOTTED: Final = re.compile(r"\w{1,2}(?:\.\w{1,2})+")
#: Shorter clauses are spoken with the next one. A character of a wide script counts as three.
_MIN_CLAUSE_WEIGHT: Final = 24
_FIRST_WIDE: Final = "\u2e80"


def sentences(text: str, max_chars: int = MAX_CHARS, language: str = "") -> Iterator[str]:
    """Yield the sentences of a whole text in order, each of 1 … `max_chars` characters.

    `language` is a BCP 47 tag; with "" the abbreviations of all languages hold.
    Only the first, or one of nothing else, begins with white space. An SSML document is one sentence, of any length.
    Each is found when it is requested: the first costs no more in a book than in a line.
    """
    start = 0
    while (end := find_end(text, start, start, "sentence", max_chars, language)[0]) is not None:
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]


def find_end(
    text: str, start: int, scanned: int, granularity: Granularity, max_chars: int, language: str = ""
) -> tuple[int | None, int]:
    """Find where the piece that begins at `start` ends, in a text that may still grow at its end.

    Returns (end, position before which there is nothing left to judge). `end` is None while it depends on characters
    that have not arrived: `Dr.` may go on, and so may `3.`, `Wait...` and `Stop!" he said`, so a piece ends with the
    first letter of the next. A later call with more text passes the position as `scanned`, and no character is searched
    twice; the first call of a piece passes `start`. If no text follows, the rest, at most `max_chars`, is one piece.
    """
    last = start + max_chars
    may_be_document = text.startswith("<", scanned) or text[scanned : scanned + 1].isspace()
    if may_be_document and not text[start:scanned].strip() and ssml.may_become_document(text, scanned):
        # A document is one piece, however long: cut anywhere, its tags would be read aloud.
        end = ssml.find_end(text, scanned)
        return (None, scanned) if end is None or end == len(text) else (end, end)
    while True:
        found = _BREAKS[granularity].search(text, scanned, last + 1)
        if found is None or found.end() > last:
            break
        following = _following(text, found.end(), last + 1)
        if following is None:
            # The break may become longer, or be followed by anything.
            return None, found.start()
        scanned = found.end()
        if text[start:scanned].strip() and _ends(text, start, found, following, language):
            return scanned, scanned
    if len(text) > last:
        end = _cut(text, start, max_chars)
        return end, end
    return None, len(text)


def _following(text: str, end: int, limit: int) -> str | None:
    """The first character behind `end` that opens nothing, or the one before `limit`; None if it has not arrived."""
    lead = _LEAD.match(text, end, limit)
    place = min(lead.end() if lead else end, limit - 1)
    return text[place] if place < len(text) else None


def _ends(text: str, start: int, found: re.Match[str], following: str, language: str) -> bool:
    """Whether the piece from `start` is over behind `found`."""
    mark = found.group()
    if found.lastgroup == "pause":
        said = text[start : found.end()].strip()
        return sum(3 if char >= _FIRST_WIDE else 1 for char in said) >= _MIN_CLAUSE_WEIGHT
    if found.lastgroup == "wide" or _PARAGRAPH.search(mark):
        return True
    if found.lastgroup == "line" or following.islower():
        return False
    if not mark.startswith(".") or mark.startswith(".."):
        return True
    return not _abbreviates(text, start, found.start(), following, language)


def _abbreviates(text: str, start: int, dot: int, following: str, language: str) -> bool:
    """Whether the full stop at `dot` belongs to the word before it: `Dr.`, the `J.` of a name, the `1.` of a list."""
    head = text[max(start, dot - 40) : dot]
    words = _WORD_BREAK.split(head)
    word, before = words[-1], words[-2].casefold() if len(words) > 1 else ""
    if len(word) == 1 and word.isupper() and word != "I":
        return True
    if word.isdigit():
        line = head[: -len(word)].rstrip(" \t")
        return len(word) <= 2 and (not line or line.endswith("\n") or before in before_ordinals(language))
    folded = word.casefold()
    return (
        folded in abbreviations(language)
        or (folded in BEFORE_NUMBERS and following.isdigit())
        or _DOTTED.fullmatch(word) is not None
    )


def _cut(text: str, start: int, max_chars: int) -> int:
    """The end of a piece that is too long: behind a pause, else behind a space, else not before a combining mark."""
    last, half = start + max_chars, start + max_chars // 2
    for pattern in (_CUT_PAUSE, _CUT_SPACE):
        cut = max((found.end() for found in pattern.finditer(text, half, last)), default=0)
        if cut > half:
            return cut
    cut = last
    while cut > half and cut < len(text) and (unicodedata.combining(text[cut]) or text[cut] in "\u200d\ufe0f"):
        cut -= 1
    return cut
