"""One entry of a log, and the position that every entry carries.

An entry carries where the log stands after it (protocol rule 8): reading the last one gives a takeover its whole state,
and no replacement ever reads the audio before it.

    Antiphon-Kind     block progress checkpoint done failed cancelled expired; `accepted` on `.job`
    Antiphon-Block    on a block: how many block entries came before it
    Antiphon-Frame    on a block: index of its first frame
    Antiphon-Next     "<next block> <next frame> <crc32 of all PCM so far, 8 hex digits> <checkpoint's sequence or 0>"
    Antiphon-Started  first entry of each attempt: JSON `wire.Started`
    Antiphon-Marks    on a block in which words or sentences begin: JSON array of `wire.Mark`, by frame
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
    """Where a log stands after an entry."""

    #: Block entries so far: the number of the next one.
    block: int = 0
    #: Frames so far: the index of the next one.
    frame: int = 0
    #: CRC-32 of all PCM so far.
    crc32: int = 0
    #: Stream sequence of the latest checkpoint, 0 for none.
    checkpoint_seq: int = 0

    def after_block(self, pcm: bytes, frames: int) -> "Position":
        """The position after one more block of `frames` frames."""
        return Position(self.block + 1, self.frame + frames, zlib.crc32(pcm, self.crc32), self.checkpoint_seq)

    def header(self) -> str:
        """The value of `Antiphon-Next`."""
        return f"{self.block} {self.frame} {self.crc32:08x} {self.checkpoint_seq}"

    @classmethod
    def parse(cls, text: str) -> "Position":
        """The position in a value of `Antiphon-Next`. Raises Malformed."""
        try:
            block, frame, crc32, checkpoint_seq = text.split(" ")
            return cls(int(block), int(frame), int(crc32, 16), int(checkpoint_seq))
        except ValueError as error:
            raise Malformed(f"{NEXT}: {text[:100]!r}") from error


class Entry:
    """An entry as stored. Its fields are read from its headers on access."""

    __slots__ = ("kind", "last_seq", "message", "seq")

    def __init__(self, message: Message, seq: int, last_seq: int = -1) -> None:
        self.message = message
        #: Sequence in REPLIES.
        self.seq = seq
        #: Sequence of the entry before it in this log (0: none), known on the live subject only; else -1.
        self.last_seq = last_seq
        #: One of `KINDS` or `accepted`; "" for a message that is no entry.
        self.kind = message.header(KIND) or ""

    @classmethod
    def live(cls, message: Message) -> "Entry":
        """An entry that arrived on the live subject. Raises ValueError if a sequence in its headers is no number."""
        seq = int(message.header("Nats-Sequence") or 0)
        return cls(message, seq, int(message.header("Nats-Last-Sequence") or 0))

    @classmethod
    def stored(cls, stored: Stored) -> "Entry":
        """An entry that was read from the stream."""
        return cls(stored.message, stored.seq)

    @property
    def payload(self) -> bytes:
        """Interleaved s16le PCM for a block, else JSON."""
        return self.message.data

    @property
    def is_end(self) -> bool:
        """Whether it is the log's terminal entry."""
        return self.kind in wire.ENDS

    @property
    def block(self) -> int:
        """Number of a block, counted from 0."""
        return int(self.message.header(BLOCK) or 0)

    @property
    def frame(self) -> int:
        """Index of a block's first frame."""
        return int(self.message.header(FRAME) or 0)

    @property
    def position(self) -> Position:
        """Where the log stands after this entry. Raises Malformed."""
        return Position.parse(self.message.header(NEXT) or "")

    @property
    def marks(self) -> list[wire.Mark]:
        """Marks that begin in this block, by frame. Raises Malformed."""
        # Read by every listener for every block; most blocks have none.
        head = self.message.head
        if head is None or _MARKS_LINE not in head:
            return []
        return wire.decode(list[wire.Mark], (self.message.header(MARKS) or "").encode())

    @property
    def started(self) -> wire.Started | None:
        """The attempt that begins with this entry, or None. Raises Malformed."""
        text = self.message.header(STARTED)
        return None if text is None else wire.decode(wire.Started, text.encode())
