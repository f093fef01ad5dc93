"""float32 audio to the bus's s16le."""

import numpy as np
from numpy.typing import NDArray


class NotFinite(ValueError):
    """NaN or infinity in a block: the model has broken, whatever it claims."""


def to_s16le(pcm: NDArray[np.float32]) -> bytes:
    """float32 (frames, channels) in [-1, 1] to interleaved s16le.

    A sample is `rint(32768 x)`, clipped to [-32768, 32767], so n/32768 comes back as n for every 16-bit n.

    Raises:
        NotFinite: with how many samples are not, and where the first one is.
    """
    scaled = pcm * np.float32(32768.0)
    # The sum is finite exactly if all samples are (|scaled| is far from overflow): one pass, no temporary array.
    if not np.isfinite(scaled.sum()):
        bad = ~np.isfinite(pcm)
        if bad.any():
            frame = int(np.argwhere(bad)[0][0])
            raise NotFinite(f"{int(bad.sum())} samples are not finite, the first at frame {frame}")
    np.rint(scaled, out=scaled)
    np.clip(scaled, -32768.0, 32767.0, out=scaled)
    return scaled.astype("<i2").tobytes()
