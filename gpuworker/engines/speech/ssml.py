"""SSML: what of it is spoken, and where it may be cut."""

import itertools
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple
from xml.parsers import expat

from gpuworker.engine import Mark, Rejected

#: What espeak-ng understands, less what reaches outside the text (`audio`, `script`, …).
_ELEMENTS = frozenset(
    ("speak", "voice", "prosody", "say-as", "mark", "s", "p", "sub", "emphasis", "break", "phoneme", "metadata")
)
#: A document is cut only if nothing but these stands directly under `speak`.
_SENTENCES, _BETWEEN = frozenset(("p", "s")), frozenset(("break", "mark"))
_MAX_DEPTH = 16


def is_ssml(text: str) -> bool:
    return text.lstrip().startswith("<speak")


class Part(NamedTuple):
    """What is spoken in one go. Of a document: its beginning, a stretch of what stands between, and its end."""

    text: str
    #: Of `text` that is the stretch, and where in the original it begins; in characters.
    body: range
    at: int

    def original(self, place: int) -> int:
        """Where the character at `place` of `text`, one of `body`, stands in the original."""
        return place - self.body.start + self.at

    def mark(self, frame: int) -> Mark:
        """That it begins at `frame`; `body` must not be blank."""
        body = self.text[self.body.start : self.body.stop]
        return Mark(frame, "sentence", self.at + len(body) - len(body.lstrip()), len(body.strip()))


def parts(text: str, knows_voice: Callable[[str], bool]) -> list[Part]:
    """`text`, which `is_ssml`, as documents that sound one after the other as it does: its `p` and `s`, or one in all.

    Raises:
        Rejected: it is not well-formed, or asks for something that is not spoken here; with line and column.
    """
    stripped = text.strip()
    return _Reader(stripped, text.find(stripped), knows_voice).read()


class _Reader:
    def __init__(self, text: str, at: int, knows_voice: Callable[[str], bool]) -> None:
        """`at`: where the original has it."""
        self._text, self._bytes, self._at, self._knows_voice = text, text.encode(), at, knows_voice
        self._depth = 0
        self._body_start: int | None = None
        self._body_end = 0
        self._cuts: list[int] = []
        self._safe = True
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._on_start
        self._parser.EndElementHandler = self._on_end
        self._parser.CharacterDataHandler = self._on_text
        self._parser.CommentHandler = self._on_other
        self._parser.ProcessingInstructionHandler = self._on_instruction

    def read(self) -> list[Part]:
        try:
            self._parser.Parse(self._bytes, True)
        except expat.ExpatError as error:
            message = f"is no well-formed SSML: {expat.ErrorString(error.code)}"
            raise Rejected("input", f"{message} at line {error.lineno}, column {error.offset + 1}") from error
        if not self._safe or len(self._cuts) < 2 or self._body_start is None:
            return [Part(self._text, range(len(self._text)), self._at)]
        head, tail = self._bytes[: self._body_start].decode(), self._bytes[self._body_end :].decode()
        edges = [self._body_start, *self._cuts[1:], self._body_end]
        found, at = [], len(head)
        for start, end in itertools.pairwise(edges):
            body = self._bytes[start:end].decode()
            found.append(Part(head + body + tail, range(len(head), len(head) + len(body)), self._at + at))
            at += len(body)
        return found

    def _refuse(self, what: str) -> None:
        line, column = self._parser.CurrentLineNumber, self._parser.CurrentColumnNumber + 1
        raise Rejected("input", f"{what} at line {line}, column {column} of the SSML")

    def _enter_body(self) -> None:
        """Whatever comes first behind the start tag of `speak` shows where that tag ends."""
        if self._depth and self._body_start is None:
            self._body_start = self._parser.CurrentByteIndex

    def _on_start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._enter_body()
        if name not in _ELEMENTS:
            self._refuse(f"has <{name}>, which is not spoken here,")
        if (name == "speak") != (self._depth == 0):
            self._refuse(f"has <{name}> in the wrong place")
        if self._depth == _MAX_DEPTH:
            self._refuse(f"is nested more than {_MAX_DEPTH} deep")
        wanted = attributes.get("name", "") if name == "voice" else ""
        if wanted and not self._knows_voice(wanted):
            self._refuse(f"asks for the voice {wanted!r}, which no document can name,")
        if self._depth == 1:
            self._on_sentence(name, _SENTENCES, _BETWEEN)
        self._depth += 1

    def _on_sentence(self, name: str, sentences: Collection[str], between: Collection[str]) -> None:
        if name in sentences:
            self._cuts.append(self._parser.CurrentByteIndex)
        elif name not in between:
            self._safe = False

    def _on_end(self, name: str) -> None:
        self._enter_body()
        self._depth -= 1
        if self._depth == 0:
            self._body_end = self._parser.CurrentByteIndex

    def _on_text(self, text: str) -> None:
        self._enter_body()
        if self._depth == 1 and text.strip():
            self._safe = False

    def _on_other(self, comment: str) -> None:
        self._enter_body()

    def _on_instruction(self, target: str, text: str) -> None:
        self._enter_body()
