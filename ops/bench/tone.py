"""The signal of `tone` as docs/engines.md defines it: the benchmark checks bytes without importing an engine."""

from array import array
from typing import Final

RATE_HZ: Final = 24_000
PERIOD_BYTES: Final = 2 * 65_536
#: Two periods, so that any piece of up to one period is one slice.
_WAVE: Final = array("h", [((index * 40503) & 0xFFFF) - 32768 for index in range(65_536)]).tobytes() * 2


def pcm(start_byte: int, num_bytes: int) -> bytes:
    """`num_bytes`, at most a period, of s16le from byte `start_byte` on."""
    start = start_byte % PERIOD_BYTES
    return _WAVE[start : start + num_bytes]


def is_right(data: bytes, start_byte: int) -> bool:
    """Whether `data` is the signal from byte `start_byte` on."""
    return all(
        data[at : at + PERIOD_BYTES] == pcm(start_byte + at, min(PERIOD_BYTES, len(data) - at))
        for at in range(0, len(data), PERIOD_BYTES)
    )
