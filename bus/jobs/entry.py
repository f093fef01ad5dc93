"""One entry of a log, and the position that every entry carries.

An entry carries where the log stands after it (protocol rule 8): reading the last one gives a takeover its whole state,
and no replacement ever reads the audio before it.

    Antiphon-Kind     block progress checkpoint done failed cancelled expired; `accepted` on `.job`
    Antiphon-Block    on a block: how many block entries came before it
    Antiphon-Frame    on a block: index of its first frame
    Antiphon-Next     "<next block> <next frame> <crc32 of all PCM so far, 8 hex digits> <checkpoint's sequence or 0>"
    Antiphon-Chain    "<entries> <bytes> <sequences of the latest, newest first, 16 at most>"; of a checkpoint
                      the chain before it
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
CHAIN: Final = "Antiphon-Chain"
STARTED: Final = "Antiphon-Started"
MARKS: Final = "Antiphon-Marks"
_MARKS_LINE: Final = f"\r\n{MARKS}:".encode()
_CHAIN_LINE: Final = f"\r\n{CHAIN}:".encode()
_STARTED_LINE: Final = f"\r\n{STARTED}:".encode()

ACCEPTED: Final = "accepted"
KINDS: Final = ("block", "progress", "checkpoint", *wire.ENDS)


#: Most entries of a chain, and most bytes of their payloads: a takeover reads all of them, and an engine host has them
#: in memory. 90 minutes of an engine that keeps 2 KB per second are 14 MB.
MAX_CHAIN_ENTRIES: Final = 8192
MAX_CHAIN_BYTES: Final = 32 << 20
_NAMED_SEQS: Final = 16


class Chain(msgspec.Struct, frozen=True):
    """The growing checkpoints since the latest snapshot. Each names those before it (ADR 24)."""

    entries: int = 0
    #: Of the payloads, as stored.
    num_bytes: int = 0
    #: Stream sequences of the latest entries, newest first: a reader fetches as many at once.
    seqs: tuple[int, ...] = ()

    def after(self, seq: int, num_bytes: int) -> "Chain":
        """The chain with one more entry."""
        return Chain(self.entries + 1, self.num_bytes + num_bytes, (seq, *self.seqs)[:_NAMED_SEQS])

    def has_room(self, num_bytes: int) -> bool:
        """Whether one more entry of `num_bytes` may be stored."""
        return self.entries < MAX_CHAIN_ENTRIES and self.num_bytes + num_bytes <= MAX_CHAIN_BYTES

    def header(self) -> str:
        """The value of `Antiphon-Chain`."""
        return " ".join(map(str, (self.entries, self.num_bytes, *self.seqs)))

    @classmethod
    def parse(cls, text: str) -> "Chain":
        """The chain in a value of `Antiphon-Chain`. Raises Malformed."""
        try:
            entries, num_bytes, *seqs = map(int, text.split(" "))
        except ValueError as error:
            raise Malformed(f"{CHAIN}: {text[:100]!r}") from error
        if len(seqs) != min(entries, _NAMED_SEQS):
            raise Malformed(f"{CHAIN}: {entries} entries and {len(seqs)} sequences")
        return cls(entries, num_bytes, tuple(seqs))


class Position(msgspec.Struct, frozen=True):
    """Where a log stands after an entry."""

    #: Block entries so far: the number of the next one.
    block: int = 0
    #: Frames so far: the index of the next one.
    frame: int = 0
    #: CRC-32 of all PCM so far.
    crc32: int = 0
    #: Stream sequence of the latest checkpoint that does not grow, 0 for none.
    checkpoint_seq: int = 0
    #: Those since then that grow. Not in `Antiphon-Next`, so that an older worker goes on from `checkpoint_seq`.
    chain: Chain = Chain()

    def after_block(self, pcm: bytes, frames: int) -> "Position":
        """The position after one more block of `frames` frames."""
        crc32 = zlib.crc32(pcm, self.crc32)
        return Position(self.block + 1, self.frame + frames, crc32, self.checkpoint_seq, self.chain)

    def after_checkpoint(self, seq: int, num_bytes: int, *, grows: bool) -> "Position":
        """The position after a checkpoint with a payload of `num_bytes`; one that does not grow breaks the chain."""
        if grows:
            return msgspec.structs.replace(self, chain=self.chain.after(seq, num_bytes))
        return msgspec.structs.replace(self, checkpoint_seq=seq, chain=Chain())

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


class Entry(msgspec.Struct, frozen=True, eq=False):
    """An entry as stored. Its properties are read from its headers on access."""

    message: Message
    #: Interleaved s16le PCM for a block, else JSON.
    payload: bytes
    #: Sequence in REPLIES.
    seq: int
    #: One of `KINDS` or `accepted`; "" for a message that is no entry.
    kind: str
    #: Whether it is the log's terminal entry.
    is_end: bool
    #: Sequence of the entry before it in this log (0: none), known on the live subject only; else -1.
    last_seq: int = -1

    @classmethod
    def live(cls, message: Message) -> "Entry":
        """An entry that arrived on the live subject. Raises ValueError if a sequence in its headers is no number."""
        kind = message.header(KIND) or ""
        seq = int(message.server_header("Nats-Sequence") or 0)
        last_seq = int(message.server_header("Nats-Last-Sequence") or 0)
        return cls(message, message.data, seq, kind, kind in wire.ENDS, last_seq)

    @classmethod
    def stored(cls, stored: Stored) -> "Entry":
        """An entry that was read from the stream."""
        message = stored.message
        kind = message.header(KIND) or ""
        return cls(message, message.data, stored.seq, kind, kind in wire.ENDS)

    @property
    def block(self) -> int:
        """Number of a block, counted from 0. Raises Malformed."""
        return _number(BLOCK, self.message.header(BLOCK))

    @property
    def frame(self) -> int:
        """Index of a block's first frame. Raises Malformed."""
        return _number(FRAME, self.message.header(FRAME))

    @property
    def position(self) -> Position:
        """Where the log stands after this entry, a checkpoint included. Raises Malformed."""
        position, chain = Position.parse(self.message.header(NEXT) or ""), self.chain
        if chain is not None:
            position = msgspec.structs.replace(position, chain=chain)
        if self.kind != "checkpoint":
            return position
        return position.after_checkpoint(self.seq, len(self.payload), grows=chain is not None)

    @property
    def chain(self) -> Chain | None:
        """The chain in its header: of a checkpoint the one before it, None if it does not grow. Raises Malformed."""
        head = self.message.head
        if head is None or _CHAIN_LINE not in head:
            return None
        return Chain.parse(self.message.header(CHAIN) or "")

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
        # As for the marks: only the first entry of an attempt has it.
        head = self.message.head
        if head is None or _STARTED_LINE not in head:
            return None
        return wire.decode(wire.Started, (self.message.header(STARTED) or "").encode())


def _number(name: str, text: str | None) -> int:
    try:
        return int(text or 0)
    except ValueError as error:
        raise Malformed(f"{name}: {(text or '')[:100]!r}") from error
