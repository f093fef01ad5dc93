"""Changes of a text before it is spoken; each character keeps the place of the one that it stands for."""

from collections.abc import Iterable
from typing import NamedTuple

from gpuworker.engines.text.coverage import Span
from gpuworker.engines.text.parts import Part


class Edit(NamedTuple):
    """The characters from `start` to `end` of a text are replaced by `text`."""

    start: int
    end: int
    text: str


def edited(part: Part, edits: Iterable[Edit]) -> Part:
    """`part` with its body changed. `edits` count from its beginning; they are in order, without overlap."""
    edits = list(edits)
    if not edits:
        return part
    first = part.body.start
    body = part.text[first : part.body.stop]
    pieces: list[str] = []
    spans: list[Span] = []
    done = 0
    for edit in (*edits, Edit(len(body), len(body), "")):
        pieces += (body[done : edit.start], edit.text)
        spans += [part.span(first + place, first + place + 1) for place in range(done, edit.start)]
        if edit.end > edit.start:
            spans += [part.span(first + edit.start, first + edit.end)] * len(edit.text)
        elif edit.text:  # an insertion has no place of its own: an empty one, behind the character before it
            end = part.span(first + edit.start - 1, first + edit.start)[1] if edit.start else part.start
            spans += [(end, end)] * len(edit.text)
        done = edit.end
    body = "".join(pieces)
    text = part.text[:first] + body + part.text[part.body.stop :]
    return Part(text, range(first, first + len(body)), part.start, tuple(spans))
