"""The parts of a text that are spoken one after the other."""

from collections.abc import Iterator
from typing import NamedTuple

from bus.sentences import sentences
from gpuworker.engine import Mark


class Part(NamedTuple):
    """Text that is spoken in one go: a sentence, or an SSML document around a stretch of the original."""

    text: str
    #: The stretch within `text`, in characters; the rest is the beginning and the end of the document.
    body: range
    #: Start of the stretch in the original.
    start: int

    def original(self, place: int) -> int:
        """The position in the original of the character at `place` of `text`, which must be one of `body`."""
        return place - self.body.start + self.start

    def mark(self, frame: int) -> Mark:
        """The mark of a part that begins at `frame`; its body must not be blank."""
        body = self.text[self.body.start : self.body.stop]
        return Mark(frame, "sentence", self.start + len(body) - len(body.lstrip()), len(body.strip()))


def plain_parts(text: str) -> Iterator[Part]:
    """The sentences of a text that is not SSML."""
    start = 0
    for sentence in sentences(text):
        yield Part(sentence, range(len(sentence)), start)
        start += len(sentence)
