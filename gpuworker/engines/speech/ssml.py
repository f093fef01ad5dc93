"""SSML: the elements that are spoken, and where a document may be cut."""

import itertools
from collections.abc import Callable, Collection, Mapping
from xml.parsers import expat

from bus.ssml import BadBreak, duration_ms, is_document, root_start
from gpuworker.engine import Rejected
from gpuworker.engines.text.parts import Part

__all__ = ("is_document", "parts")

#: Elements that espeak-ng understands, except those that reach outside the text (`audio`, `script`, …).
_ELEMENTS = frozenset(
    ("speak", "voice", "prosody", "say-as", "mark", "s", "p", "sub", "emphasis", "break", "phoneme", "metadata")
)
#: A document is cut only if nothing but these stands directly under `speak`.
_SENTENCES = frozenset(("p", "s"))
_BETWEEN = frozenset(("break", "mark"))
_MAX_DEPTH = 16


def parts(text: str, knows_voice: Callable[[str], bool]) -> list[Part]:
    """Cut a document into documents that sound the same one after the other: its `p` and `s`, or one in all.

    Raises:
        Rejected: it is not well-formed, or has something that is not spoken here; with line and column.
    """
    return _Reader(text, knows_voice).read()


class _Reader:
    """Reads one document."""

    def __init__(self, text: str, knows_voice: Callable[[str], bool]) -> None:
        #: The root element. What may stand before it is not for the library, which would read it aloud.
        self._start = root_start(text)
        self._text = text[self._start :].rstrip()
        self._prolog = text[: self._start].lstrip("\ufeff \t\r\n")
        self._bytes = self._text.encode()
        self._knows_voice = knows_voice
        self._depth = 0
        #: Start and end of the content of `speak`, in bytes.
        self._body_start: int | None = None
        self._body_end = 0
        #: Start of each `p` and `s`, in bytes.
        self._cuts: list[int] = []
        #: Whether cutting at `_cuts` leaves the audio as it is.
        self._may_be_cut = True
        self._parser = expat.ParserCreate("utf-8")  # whatever a declaration says: the text has been decoded
        self._parser.StartDoctypeDeclHandler = self._on_doctype
        self._parser.StartElementHandler = self._on_start
        self._parser.EndElementHandler = self._on_end
        self._parser.CharacterDataHandler = self._on_text
        self._parser.CommentHandler = self._on_other
        self._parser.ProcessingInstructionHandler = self._on_instruction

    def read(self) -> list[Part]:
        """Parse the document and cut it. Raises Rejected."""
        try:
            self._parser.Parse(self._prolog.encode(), False)
            self._parser.Parse(self._bytes, True)
        except expat.ExpatError as error:
            message = f"is no well-formed SSML: {expat.ErrorString(error.code)}"
            raise Rejected("input", f"{message} at line {error.lineno}, column {error.offset + 1}") from error
        if not self._may_be_cut or len(self._cuts) < 2 or self._body_start is None:
            return [Part(self._text, range(len(self._text)), self._start)]
        head = self._bytes[: self._body_start].decode()
        tail = self._bytes[self._body_end :].decode()
        edges = [self._body_start, *self._cuts[1:], self._body_end]
        found: list[Part] = []
        at = self._start + len(head)
        for start, end in itertools.pairwise(edges):
            body = self._bytes[start:end].decode()
            found.append(Part(head + body + tail, range(len(head), len(head) + len(body)), at))
            at += len(body)
        return found

    @property
    def _place(self) -> int:
        """Where the event begins, in bytes of the root element."""
        return self._parser.CurrentByteIndex - len(self._prolog.encode())

    def _on_doctype(self, *_: object) -> None:
        self._refuse("has a document type, which is not read here,")

    def _refuse(self, reason: str) -> None:
        line, column = self._parser.CurrentLineNumber, self._parser.CurrentColumnNumber + 1
        raise Rejected("input", f"{reason} at line {line}, column {column} of the SSML")

    def _enter_body(self) -> None:
        """Note where the start tag of `speak` ends: at the first event behind it."""
        if self._depth and self._body_start is None:
            self._body_start = self._place

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
            self._refuse(f"has the voice {wanted!r}, which no document can name,")
        if name == "break" and "time" in attributes:
            try:
                duration_ms(attributes["time"])
            except BadBreak as error:
                self._refuse(f"has a wrong pause: {error},")
        if self._depth == 1:
            self._on_sentence(name, _SENTENCES, _BETWEEN)
        self._depth += 1

    def _on_sentence(self, name: str, sentences: Collection[str], between: Collection[str]) -> None:
        if name in sentences:
            self._cuts.append(self._place)
        elif name not in between:
            self._may_be_cut = False

    def _on_end(self, name: str) -> None:
        self._enter_body()
        self._depth -= 1
        if self._depth == 0:
            self._body_end = self._place

    def _on_text(self, text: str) -> None:
        self._enter_body()
        if self._depth == 1 and text.strip():
            self._may_be_cut = False

    def _on_other(self, comment: str) -> None:
        self._enter_body()

    def _on_instruction(self, target: str, text: str) -> None:
        self._enter_body()
