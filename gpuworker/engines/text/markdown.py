"""Takes the marks of Markdown out of a text, and leaves what is read."""

import re
from collections.abc import Callable, Iterator
from typing import Final

from gpuworker.engines.text.edits import Edit, edited
from gpuworker.engines.text.parts import Part

_M: Final = re.MULTILINE
#: Each with the groups of it that are kept; the rest of a match is dropped.
_KEEP: Final = (
    # A fence, a rule, the line under a heading and that between the rows of a table.
    (re.compile(r"^[ \t]*+(?:```[^\n`]*|~~~[^\n~]*|(?:[-*_][ \t]*+){3,}+|=+)$", _M), ()),
    (re.compile(r"^[ \t]*+\|?[ \t]*+:?-++:?[ \t]*+(?:\|[ \t]*+:?-++:?[ \t]*+)++\|?[ \t]*+$", _M), ()),
    (re.compile(r"^[ \t]*(?:>[ \t]?)+", _M), ()),
    (re.compile(r"!?\[(?P<text>[^\[\]\n]*)\]\((?:[^()\n]|\([^()\n]*\))*\)"), ("text",)),
    (re.compile(r"!?\[(?P<text>[^\[\]\n]+)\]\[[^\[\]\n]*\]"), ("text",)),
    (re.compile(r"<(?P<text>https?://[^<>\s]+|[^<>\s@]+@[^<>\s@]+)>"), ("text",)),
    (re.compile(r"(?P<mark>`+)(?P<text>[^`\n]+)(?P=mark)"), ("text",)),
    (re.compile(r"(?P<mark>\*\*\*|\*\*|__|~~)(?=\S)(?P<text>.{1,500}?)(?<=\S)(?P=mark)", re.DOTALL), ("text",)),
    (re.compile(r"(?<![\w*\\])(?P<mark>[*_])(?=[^\s*_])(?P<text>[^*_\n]{1,500}?)(?<=\S)(?P=mark)(?![\w*])"), ("text",)),
    (re.compile(r"\\(?P<text>[!-/:-@\[-`{-~])"), ("text",)),
)  # fmt: skip
#: A heading, or an item of a list: a sentence of its own.
_HEADING: Final = re.compile(r"^[ \t]{0,3}#{1,6}[ \t]++(?P<text>[^\n]*+)\n?", _M)
_ITEM: Final = re.compile(r"^(?P<mark>[ \t]*(?:[-*+][ \t]+(?:\[[ xX]\][ \t]+)?|(?=\d{1,3}[.)][ \t])))", _M)
_BAR: Final = re.compile(r"\|")
_BARS: Final = re.compile(r"[\s|:-]*")


def without_marks(part: Part) -> Part:
    """`part`, plain text, without the marks of emphasis, headings, lists, links, code, quotes and tables."""
    for find in (_headings, _items, _rows, *(_keeping(pattern, kept) for pattern, kept in _KEEP)):
        part = edited(part, find(part.text))
    return part


def _headings(text: str) -> Iterator[Edit]:
    for match in _HEADING.finditer(text):
        yield Edit(match.start(), match.start("text"), "")
        yield Edit(match.start("text") + len(match["text"].rstrip(" \t#")), match.end(), "\n\n")


def _items(text: str) -> Iterator[Edit]:
    for match in _ITEM.finditer(text):
        yield Edit(match.start(), match.end(), "\n" if match.start() else "")


def _rows(text: str) -> Iterator[Edit]:
    """The cells of a table's rows as a list, each row a sentence."""
    start = 0
    for line in text.splitlines(keepends=True):
        row = line.strip()
        first = start + line.find(row)
        last = first + len(row)
        if row.startswith("|") and row.endswith("|") and len(row) > 1 and not _BARS.fullmatch(row):
            yield Edit(start, first + 1, "")
            for bar in _BAR.finditer(text, first + 1, last - 1):
                yield Edit(bar.start(), bar.end(), ", ")
            yield Edit(last - 1, start + len(line), "\n\n")
        start += len(line)


def _keeping(pattern: re.Pattern[str], kept: tuple[str, ...]) -> Callable[[str], Iterator[Edit]]:
    def find(text: str) -> Iterator[Edit]:
        for match in pattern.finditer(text):
            place = match.start()
            for name in kept:
                yield Edit(place, match.start(name), "")
                place = match.end(name)
            yield Edit(place, match.end(), "")

    return find
