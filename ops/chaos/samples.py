"""What must be heard: recomputed for `tone`; for the other models recorded once, while nothing is disturbed."""

from array import array
from sys import byteorder
from typing import Final

TONE_RATE_HZ: Final = 24_000
SAMPLE_BYTES: Final = 2
_PERIOD_FRAMES: Final = 65_536


def tone_period() -> bytes:
    """One period of the contract's signal, s16le: sample i is `((i * 40503) & 0xFFFF) - 32768`."""
    samples = array("h", (((index * 40503) & 0xFFFF) - 32768 for index in range(_PERIOD_FRAMES)))
    if byteorder == "big":
        samples.byteswap()
    return samples.tobytes()


class Truth:
    """The right bytes of one piece. `num_bytes` is None where the length is the request's to say.

    `job` is the one that the piece was recorded from, "" if it was computed.
    """

    def __init__(self, pcm: bytes, rate_hz: int, channels: int, *, is_periodic: bool = False, job: str = "") -> None:
        self.rate_hz, self.frame_bytes = rate_hz, channels * SAMPLE_BYTES
        self.num_bytes = None if is_periodic else len(pcm)
        self._pcm, self.job = pcm, job

    def wrong_at(self, offset: int, heard: bytes) -> int | None:
        """Offset of the first byte of `heard`, which begins at `offset`, that is not as it must be; None if all are."""
        position, size = 0, len(self._pcm)
        while position < len(heard):
            start = offset + position
            if self.num_bytes is None:
                start %= size
            right = self._pcm[start : start + len(heard) - position]
            got = heard[position : position + len(right)]
            if not right or got != right:
                return offset + position + _first_difference(got, right)
            position += len(right)
        return None


def _first_difference(left: bytes, right: bytes) -> int:
    return next((index for index, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), 0)


def tone() -> Truth:
    return Truth(tone_period(), TONE_RATE_HZ, 1, is_periodic=True)
