"""The signal of the `tone` engine, recomputed from its definition in `docs/engines.md`."""

import numpy as np

RATE_HZ = 24_000


def tone_pcm(seconds: float, from_frame: int = 0) -> bytes:
    """s16le of `seconds` from frame `from_frame` on."""
    index = np.arange(from_frame, round(seconds * RATE_HZ), dtype=np.int64)
    return (((index * 40503) & 0xFFFF) - 32768).astype("<i2").tobytes()
