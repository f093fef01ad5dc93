"""The parts of a text that are spoken one after the other."""

import re
from typing import Final, NamedTuple

from gpuworker.engine import Mark

_PAUSE: Final = re.compile(r"[.!?,;:،؛—]+\s+|[、，；：。]\s*")  # noqa: RUF001
_BLANK: Final = re.compile(r"\s+")


class Part(NamedTuple):
    """Text that is spoken in one go: a sentence, or an SSML document around a stretch of the original."""

    text: str
    #: The stretch within `text`, in characters; the rest is the beginning and the end of the document.
    body: range
    #: Start of the stretch in the original.
    start: int
    #: The (start, end) in the original of each character of the stretch; empty where `text` has them as they came.
    spans: tuple[tuple[int, int], ...] = ()
    #: Silence behind it.
    pause_ms: int = 0

    def span(self, start: int, end: int) -> tuple[int, int]:
        """(start, end) in the original of the characters from `start` to `end` of `text`, which are of `body`."""
        shift = self.body.start
        if self.spans:
            return self.spans[start - shift][0], self.spans[end - 1 - shift][1]
        return start - shift + self.start, end - shift + self.start

    def mark(self, frame: int) -> Mark:
        """The mark of a part that begins at `frame`; its body must not be blank."""
        body = self.text[self.body.start : self.body.stop]
        start, end = self.span(self.body.start + len(body) - len(body.lstrip()), self.body.start + len(body.rstrip()))
        return Mark(frame, "sentence", start, end - start)

    def stretch(self, start: int, end: int) -> "Part":
        """The characters from `start` to `end` of `text`, which are of `body`, without the document around them."""
        first = start - self.body.start
        text = self.text[start:end]
        return Part(text, range(len(text)), self.start + first, self.spans[first : first + len(text)])


def middle(text: str, body: range) -> int | None:
    """Where to cut `text` within `body`: behind a pause in its middle half, else behind a blank; None without any."""
    quarter = len(body) // 4
    for pattern, margin in ((_PAUSE, quarter), (_BLANK, 0)):
        places = [
            match.end()
            for match in pattern.finditer(text, body.start + margin, body.stop - margin)
            if text[body.start : match.end()].strip() and text[match.end() : body.stop].strip()
        ]
        if places:
            half = body.start + len(body) // 2
            return min(places, key=lambda place: abs(place - half))
    return None


def halves(part: Part) -> list[Part]:
    """The two parts of a plain text: cut between two words, or one word in its middle; none if it is one character."""
    at = middle(part.text, part.body)
    if at is None and len(part.text.strip()) > 1:
        at = len(part.text) // 2
    return [] if at is None else [part.stretch(0, at), part.stretch(at, len(part.text))]
