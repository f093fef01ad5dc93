"""One entry of a log, and the position that every entry carries.

An entry tells where the log stands after it (protocol rule 8), so that reading the last one is the whole state of a
takeover: no replacement ever reads the audio before it.

    Antiphon-Kind     block progress checkpoint done failed cancelled expired; `accepted` on `.job`
    Antiphon-Block    of a block: how many block entries came before it
    Antiphon-Frame    of a block: index of its first frame
    Antiphon-Next     "<next block> <next frame> <crc32 of all PCM so far, 8 hex digits> <checkpoint's sequence or 0>"
    Antiphon-Started  first entry of each attempt: JSON `wire.Started`
    Antiphon-Marks    of a block in which words or sentences begin: JSON array of `wire.Mark`, by frame
"""

import zlib
from typing import Final

import msgspec

from bus import wire
from bus.errors import Malformed
from bus.transport.direct import Stored
from bus.transport.parser import Message

KIND: Final = "Antiphon-Kind"
BLOCK: Final = "Antiphon-Block"
FRAME: Final = "Antiphon-Frame"
NEXT: Final = "Antiphon-Next"
STARTED: Final = "Antiphon-Started"
MARKS: Final = "Antiphon-Marks"
_MARKS_LINE: Final = f"\r\n{MARKS}:".encode()

ACCEPTED: Final = "accepted"
KINDS: Final = ("block", "progress", "checkpoint", *wire.ENDS)


class Position(msgspec.Struct, frozen=True):
    """Where a log stands."""

    block: int = 0
    frame: int = 0
    #: Of all PCM so far.
    crc32: int = 0
    #: Stream sequence of the latest checkpoint, 0 for none.
    checkpoint_seq: int = 0

    def after_block(self, pcm: bytes, frames: int) -> "Position":
        return Position(self.block + 1, self.frame + frames, zlib.crc32(pcm, self.crc32), self.checkpoint_seq)

    def header(self) -> str:
        return f"{self.block} {self.frame} {self.crc32:08x} {self.checkpoint_seq}"

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Raises Malformed."""
        try:
            block, frame, crc32, checkpoint_seq = text.split(" ")
            return cls(int(block), int(frame), int(crc32, 16), int(checkpoint_seq))
        except ValueError as error:
            raise Malformed(f"{NEXT}: {text[:100]!r}") from error


class Entry:
    """An entry as stored. Fields are read from its headers when they are asked for."""

    __slots__ = ("kind", "last_seq", "message", "seq")

    def __init__(self, message: Message, seq: int, last_seq: int = -1) -> None:
        self.message, self.seq = message, seq
        #: Sequence of the entry before it in this log (0: none), known on the live subject only; else -1.
        self.last_seq = last_seq
        self.kind = message.header(KIND) or ""

    @classmethod
    def live(cls, message: Message) -> "Entry":
        """An entry that came by the republish subject."""
        seq = int(message.header("Nats-Sequence") or 0)
        return cls(message, seq, int(message.header("Nats-Last-Sequence") or 0))

    @classmethod
    def stored(cls, stored: Stored) -> "Entry":
        return cls(stored.message, stored.seq)

    @property
    def payload(self) -> bytes:
        return self.message.data

    @property
    def is_end(self) -> bool:
        return self.kind in wire.ENDS

    @property
    def block(self) -> int:
        return int(self.message.header(BLOCK) or 0)

    @property
    def frame(self) -> int:
        """First frame of a block."""
        return int(self.message.header(FRAME) or 0)

    @property
    def position(self) -> Position:
        """Where the log stands after this entry. Raises Malformed."""
        return Position.parse(self.message.header(NEXT) or "")

    @property
    def marks(self) -> list[wire.Mark]:
        """What begins to be heard in this block, by frame. Raises Malformed."""
        # Every listener asks every block, and most have none.
        head = self.message.head
        if head is None or _MARKS_LINE not in head:
            return []
        return wire.decode(list[wire.Mark], (self.message.header(MARKS) or "").encode())

    @property
    def started(self) -> wire.Started | None:
        """What began with this entry, or None. Raises Malformed."""
        text = self.message.header(STARTED)
        return None if text is None else wire.decode(wire.Started, text.encode())
