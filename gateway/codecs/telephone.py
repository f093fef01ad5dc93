"""G.711: one byte per sample, by the mu-law of North America and Japan or the A-law of the rest of the world."""

import functools
import sys
from array import array
from typing import Final


def _of_ulaw(code: int) -> int:
    """The s16 sample that a mu-law byte stands for."""
    bits = ~code & 0xFF
    size = ((((bits & 0x0F) << 3) + 0x84) << ((bits >> 4) & 7)) - 0x84
    return -size if bits & 0x80 else size


def _of_alaw(code: int) -> int:
    """The s16 sample that an A-law byte stands for."""
    bits = code ^ 0x55
    segment, size = (bits >> 4) & 7, ((bits & 0x0F) << 4) + 8
    if segment:
        size = (size + 0x100) << (segment - 1)
    return size if bits & 0x80 else -size


#: Decoders, by the name in `FORMATS`.
LAWS: Final = {"ulaw": _of_ulaw, "alaw": _of_alaw}


@functools.cache
def _codes(law: str) -> bytes:
    """The nearest code of every s16 sample, indexed by its two bytes as an unsigned number."""
    decode = LAWS[law]
    # mu-law has two zeros; a silent line carries the one whose bits are all set.
    levels = sorted({decode(code): code for code in range(256)}.items())
    nearest = bytearray()
    for (level, code), (following, _) in zip(levels, [*levels[1:], (65_536, 0)], strict=True):
        upto = 32_768 if following == 65_536 else (level + following + 1) // 2
        nearest += bytes([code]) * (upto + 32_768 - len(nearest))
    return bytes(nearest[32_768:] + nearest[:32_768])


def to_g711(pcm: bytes, law: str) -> bytes:
    """Encode `pcm`, s16le and mono, by `law`, `ulaw` or `alaw`: each sample to the nearest code."""
    samples = array("H", pcm)
    if sys.byteorder == "big":
        samples.byteswap()
    return bytes(map(_codes(law).__getitem__, samples))
