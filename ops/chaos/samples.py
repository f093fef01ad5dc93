"""The reference audio: recomputed for `tone`; recorded once from an undisturbed stack for the other models."""

from array import array
from sys import byteorder
from typing import Final

TONE_RATE_HZ: Final = 24_000
SAMPLE_BYTES: Final = 2
_PERIOD_FRAMES: Final = 65_536


def tone_period() -> bytes:
    """One period of the signal of `tone`, s16le: sample i is `((i * 40503) & 0xFFFF) - 32768`."""
    samples = array("h", (((index * 40503) & 0xFFFF) - 32768 for index in range(_PERIOD_FRAMES)))
    if byteorder == "big":
        samples.byteswap()
    return samples.tobytes()


class Reference:
    """The right audio of one piece, s16le."""

    def __init__(self, pcm: bytes, rate_hz: int, channels: int, *, is_periodic: bool = False, job: str = "") -> None:
        """`pcm` is the whole audio, or one period. `job` is the job it was recorded from, "" if it was computed."""
        self.rate_hz = rate_hz
        self.frame_bytes = channels * SAMPLE_BYTES
        #: None for a periodic signal: the request says how long it is.
        self.num_bytes = None if is_periodic else len(pcm)
        self.job = job
        self._pcm = pcm

    def wrong_at(self, offset: int, data: bytes) -> int | None:
        """Offset of the first byte of `data` that differs, if `data` begins at `offset`; None if all are right."""
        position, size = 0, len(self._pcm)
        while position < len(data):
            start = offset + position
            if self.num_bytes is None:
                start %= size
            right = self._pcm[start : start + len(data) - position]
            got = data[position : position + len(right)]
            if not right or got != right:
                return offset + position + _first_difference(got, right)
            position += len(right)
        return None


def _first_difference(left: bytes, right: bytes) -> int:
    return next((index for index, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), 0)


def tone() -> Reference:
    """The reference of the model `tone`, for a request of any length."""
    return Reference(tone_period(), TONE_RATE_HZ, 1, is_periodic=True)
