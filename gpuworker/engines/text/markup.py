"""The tags of an SSML document by position: the text between them, and the document cut in two.

The document is one that `ssml.parts` has accepted, so it is well-formed.
"""

import html
import re
from collections.abc import Iterator
from typing import Final

from gpuworker.engines.text.parts import Part, middle

_TOKEN: Final = re.compile(
    r"<!--.*?-->|<\?.*?\?>"
    r"|<(?P<close>/)?(?P<name>[^\s/>!?]+)(?:[^\"'>]|\"[^\"]*\"|'[^']*')*?(?P<empty>/)?>"
    r"|&(?:\#\d{1,7}|\#x[0-9a-fA-F]{1,6}|\w{1,31});",
    re.DOTALL,
)
#: What is written in these is spoken as something else, or not at all.
_NOT_SPOKEN: Final = frozenset(("sub", "phoneme", "metadata", "say-as"))
#: The library ends a clause at these.
_ENDS: Final = frozenset(("p", "s", "break", "voice", "speak"))


def plain(document: str) -> str:
    """The text of a document at its own positions: markup, and what is not spoken as written, is blank."""
    found = list(document)
    hidden = 0
    for token in _TOKEN.finditer(document):
        start, end = token.span()
        name = token["name"]
        spoken = html.unescape(token.group()) if name is None and token.group()[0] == "&" else ""
        found[start:end] = (". " if name in _ENDS else spoken).ljust(end - start)[: end - start]
        if name in _NOT_SPOKEN and not token["empty"]:
            if token["close"] and hidden:
                found[hidden:start] = " " * (start - hidden)
                hidden = 0
            elif not token["close"]:
                hidden = hidden or end
    return "".join(found)


def halves(part: Part) -> list[Part]:
    """The documents of which `part` consists if it is cut near its middle, between two words; none if it is one word.

    Elements that are open at the cut are closed in the first document and opened again in the second.
    """
    text = plain(part.text)
    at = middle(text, part.body)
    if at is None:
        return []
    opened = list(_open_at(part.text, at))
    closing = "".join(f"</{name}>" for name, _ in reversed(opened))
    opening = "".join(tag for _, tag in opened)
    first, rest = part.text[part.body.start : at], part.text[at:]
    shift = at - part.body.start
    return [
        Part(part.text[:at] + closing, range(part.body.start, at), part.start, part.spans[:shift]),
        Part(
            opening + rest,
            range(len(opening), len(opening) + part.body.stop - at),
            part.start + len(first),
            part.spans[shift:],
        ),
    ]


def _open_at(document: str, place: int) -> Iterator[tuple[str, str]]:
    """(name, start tag) of the elements around `place`, outermost first."""
    stack: list[tuple[str, str]] = []
    for token in _TOKEN.finditer(document, 0, place):
        if token["name"] is None or token["empty"]:
            continue
        if token["close"]:
            stack.pop()
        else:
            stack.append((token["name"], token.group()))
    yield from stack
