"""The head of a WAV that streams: reads it, and writes the length into it once that is known."""

import struct
from pathlib import Path

import msgspec

_RIFF_HEAD = struct.Struct("<4sI4s")
_CHUNK_HEAD = struct.Struct("<4sI")
_FORMAT = struct.Struct("<HHIIHH")


class WavHead(msgspec.Struct, frozen=True):
    """The format of a WAV, and where its samples begin."""

    rate_hz: int
    channels: int
    bits: int
    #: Offset of the first sample, in bytes.
    data_at: int

    def seconds(self, size_bytes: int) -> float:
        """Length of the audio in a file of `size_bytes`."""
        return max(0, size_bytes - self.data_at) / (self.rate_hz * self.channels * self.bits // 8)


def parse(head: bytes) -> WavHead | None:
    """The head of a WAV from its first bytes; None if they are too few yet, or no WAV."""
    if len(head) < _RIFF_HEAD.size or head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    at, form = _RIFF_HEAD.size, None
    while at + _CHUNK_HEAD.size <= len(head):
        name, size = _CHUNK_HEAD.unpack_from(head, at)
        at += _CHUNK_HEAD.size
        if name == b"data":
            return WavHead(form[2], form[1], form[5], at) if form else None
        if name == b"fmt " and at + _FORMAT.size <= len(head):
            form = _FORMAT.unpack_from(head, at)
        at += size + size % 2
    return None


def write_sizes(path: Path, head: WavHead) -> None:
    """Write the sizes into the head of a finished file; a size above 4 GiB is written as 0xFFFFFFFF."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4)
        file.write(struct.pack("<I", min(size - 8, 0xFFFFFFFF)))
        file.seek(head.data_at - 4)
        file.write(struct.pack("<I", min(size - head.data_at, 0xFFFFFFFF)))
