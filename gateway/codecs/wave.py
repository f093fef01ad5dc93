"""WAV: the 44 bytes before s16le samples."""

import struct
from typing import Final

SAMPLE_BYTES: Final = 2
WAV_HEAD_BYTES: Final = 44
_UNKNOWN_SIZE: Final = 0xFFFFFFFF


def wav_head(rate_hz: int, channels: int, frames: int | None) -> bytes:
    """The head of `frames` frames; None: their number is not known yet.

    A size that is unknown, or too large for 32 bits, is written as 0xFFFFFFFF.
    """
    frame_bytes = channels * SAMPLE_BYTES
    size = _UNKNOWN_SIZE if frames is None else min(frames * frame_bytes, _UNKNOWN_SIZE)
    riff = min(size + WAV_HEAD_BYTES - 8, _UNKNOWN_SIZE)
    form = struct.pack("<HHIIHH", 1, channels, rate_hz, rate_hz * frame_bytes, frame_bytes, 8 * SAMPLE_BYTES)
    return b"RIFF" + riff.to_bytes(4, "little") + b"WAVEfmt \x10\0\0\0" + form + b"data" + size.to_bytes(4, "little")
