"""Where a text may be cut so that its parts can be spoken one after the other.

Nothing is lost: the sentences joined give the text again. White space behind a sentence belongs to it, so only the
first can begin with any. The rules know no language: they weigh marks, spaces and letter case, and a short list of
abbreviations.
"""

import re
import unicodedata
from collections.abc import Iterator

#: Longest sentence, in characters: about twenty seconds of speech.
MAX_SENTENCE_CHARS = 300

#: End a sentence wherever they stand: their scripts put no space behind them.
_WIDE = "。！？｡"  # noqa: RUF001
#: End a sentence when white space, or nothing, follows.
_NARROW = "!?…؟۔।॥։።፧។။༎"  # noqa: RUF001
_CLOSERS = "\"')]}»”’›」』）】"  # noqa: RUF001
#: Of the marks that pause within a sentence.
_PAUSES = ",;:،؛、，；："  # noqa: RUF001

#: A run of marks, what closes behind it, and the space after it; or the end of a line.
_BREAK = re.compile(
    rf"(?P<wide>[{_WIDE}][{_WIDE}{_NARROW}.]*[{re.escape(_CLOSERS)}]*\s*)"
    # Only from the first mark of a run: a run that ends no sentence would be read again from each of its marks.
    rf"|(?<![{_NARROW}.])(?P<narrow>[{_NARROW}.]+[{re.escape(_CLOSERS)}]*(?:\s+|$))"
    r"|(?P<line>\n\s*)"
)
# fmt: off
_ABBREVIATIONS = frozenset((
    "al", "approx", "apr", "asst", "aug", "ave", "blvd", "bzw", "ca", "cap", "capt", "cf", "cmdr", "co", "corp",
    "dept", "dr", "ed", "eds", "e.g", "esp", "est", "et", "etc", "ext", "feb", "fig", "figs", "ft", "gen", "gov",
    "hon", "hr", "i.e", "inc", "jan", "jr", "jul", "jun", "lt", "ltd", "messrs", "mlle", "mme", "mr", "mrs", "ms",
    "mt", "nos", "nov", "nr", "oct", "op", "p.ex", "pp", "prof", "pvt", "rep", "rev", "sep", "sept", "sgt", "sig",
    "sr", "sra", "srta", "st", "str", "tel", "u.a", "u.s", "usw", "viz", "vgl", "vol", "vs", "z.b",
))
# fmt: on
#: A line this long was broken to fit a page, not to end something.
_WRAPPED_LINE_CHARS = 50


def sentences(text: str, max_chars: int = MAX_SENTENCE_CHARS) -> Iterator[str]:
    """The sentences of `text` in order, each of 1 … `max_chars` characters.

    Only where a run of white space is longer than that is one of them nothing else. They are found as they are asked
    for: the first costs no more in a book than in a line.
    """
    start = 0
    for match in _BREAK.finditer(text):
        end = match.end()
        if end == len(text) or not _ends(text, match) or not text[start:end].strip():
            continue
        yield from _within(text[start:end], max_chars)
        start = end
    yield from _within(text[start:], max_chars)


def _ends(text: str, match: re.Match[str]) -> bool:
    """Whether the sentence is over behind `match`, which does not end the text."""
    mark = match.group()
    following = text[match.end()]
    if match.lastgroup == "wide" or mark.count("\n") > 1:
        return True
    if match.lastgroup == "line":
        line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
        return len(line) < _WRAPPED_LINE_CHARS and not following.islower()
    if not mark.startswith(".") or mark.startswith(".."):
        return not following.islower()
    return not following.islower() and not _abbreviates(text, match.start())


def _abbreviates(text: str, dot: int) -> bool:
    """Whether the full stop at `dot` belongs to the word before it: `Dr.`, the `J.` of a name, the `1.` of a list."""
    head = text[max(0, dot - 24) : dot]
    word = re.split(r"[\s(\[\"'“‘«—–-]", head)[-1]  # noqa: RUF001
    if len(word) == 1 and word.isupper() and word != "I":
        return True
    if word.isdigit():
        before = head[: -len(word)].rstrip(" \t")
        return len(word) <= 2 and (not before or before.endswith("\n"))
    return word.casefold() in _ABBREVIATIONS


def _within(sentence: str, max_chars: int) -> Iterator[str]:
    """`sentence` in parts of at most `max_chars`, cut behind a pause, else behind a space, else anywhere but before a
    combining mark.
    """
    while len(sentence) > max_chars:
        cut = _cut(sentence, max_chars)
        yield sentence[:cut]
        sentence = sentence[cut:]
    if sentence:
        yield sentence


def _cut(sentence: str, max_chars: int) -> int:
    window = sentence[:max_chars]
    half = max_chars // 2
    behind_pause = max((m.end() for m in re.finditer(rf"[{_PAUSES}]\s+|[、，；：،]\s*", window)), default=0)  # noqa: RUF001
    behind_space = max((m.end() for m in re.finditer(r"\s+", window)), default=0)
    for cut in (behind_pause, behind_space):
        if cut > half:
            return cut
    cut = max_chars
    while cut > half and (unicodedata.combining(sentence[cut]) or sentence[cut] in "\u200d\ufe0f"):
        cut -= 1
    return cut
