"""SSML as far as every process must know it: which texts are documents, and how long their pauses are.

Imports the standard library only. The engine that speaks a document checks the rest of it.
"""

import re
from typing import Final

#: The longest pause of a `<break>`.
MAX_BREAK_S: Final = 10.0

#: A declaration or comment before the root that is longer is the beginning of plain text.
_MAX_PROLOG_CHARS: Final = 1000
_PROLOG: Final = ("<?", "<!--", "<!DOCTYPE")
#: The XML declaration, comments and a document type may stand before the root. Atomic: no text takes long to refuse.
_BEFORE_ROOT: Final = r"(?:[\ufeff\s]++|(?><\?.*?\?>)|(?><!--.*?-->)|<!DOCTYPE[^>]*+>)*+"
_ROOT: Final = re.compile(rf"{_BEFORE_ROOT}(?=<speak[\s/>])", re.DOTALL)
_BEGINNING: Final = re.compile(_BEFORE_ROOT, re.DOTALL)
_EMPTY: Final = re.compile(r"<speak(?:[^\"'<>]|\"[^\"<]*\"|'[^'<]*')*+(?<=/)>\s*")
_END: Final = re.compile(r"</speak\s*>\s*")
#: A `break` with its attributes.
BREAK: Final = re.compile(r"<break\b(?P<attributes>(?:[^\"'<>]|\"[^\"]*\"|'[^']*')*)>(?:\s*</break\s*>)?")
#: The value of its attribute `time`.
TIME: Final = re.compile(r"\btime\s*=\s*(?:\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)')")
_DURATION: Final = re.compile(r"\+?(?P<number>\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})(?P<unit>s|ms)", re.ASCII)


class BadBreak(ValueError):
    """The time of a `<break>` is none, or is over the limit; the text names both."""


def is_document(text: str) -> bool:
    """Whether a text is an SSML document: its root element is `speak`. Anything else is plain text."""
    return _ROOT.match(text) is not None


def root_start(text: str) -> int:
    """Where the root element of a document begins."""
    found = _ROOT.match(text)
    return found.end() if found else 0


def may_become_document(text: str, start: int) -> bool:
    """Whether the text from `start` on is a document, or may be the beginning of one."""
    found = _BEGINNING.match(text, start)
    at = found.end() if found else start
    if text.startswith(_PROLOG, at):
        return len(text) - at < _MAX_PROLOG_CHARS
    tag = text[at : at + len("<speak") + 1]
    if tag[:-1] == "<speak":
        return tag[-1] in " \t\r\n/>"
    rest = text[at : at + len("<!DOCTYPE")]
    if not rest:
        return not text[start:at].isspace() and at > start
    return any(head.startswith(rest) for head in ("<speak", *_PROLOG))


def find_end(text: str, start: int) -> int | None:
    """Where the document that begins at `start` ends, white space behind it included; None before its end arrived."""
    root = _ROOT.match(text, start)
    if root is None:
        return None
    found = _EMPTY.match(text, root.end())
    if found is None:
        place = text.find("</speak", root.end())
        found = _END.match(text, place) if place >= 0 else None
    return found.end() if found else None


def duration_ms(text: str, max_s: float = MAX_BREAK_S) -> int:
    """The milliseconds of a time such as `1.5s` or `500ms`. Raises BadBreak."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise BadBreak(f"the break time {text[:40]!r} is no time such as 1.5s or 500ms")
    milliseconds = float(found["number"]) * (1000 if found["unit"] == "s" else 1)
    if milliseconds > max_s * 1000:
        raise BadBreak(f"the break time {text[:40]!r} is over the limit of {max_s:g} s")
    return round(milliseconds)


def break_ms(tag: re.Match[str], max_s: float = MAX_BREAK_S) -> int | None:
    """The milliseconds of a match of `BREAK`; None without the attribute `time`. Raises BadBreak."""
    found = TIME.search(tag["attributes"])
    return duration_ms(found["double"] or found["single"] or "", max_s) if found else None


def check_breaks(text: str, max_s: float = MAX_BREAK_S) -> bool:
    """Whether a plain text has a `<break time="…"/>`. Raises BadBreak for one whose time is wrong."""
    times = [break_ms(tag, max_s) for tag in BREAK.finditer(text)]
    return any(time is not None for time in times)
