"""A watermark for tests: one bit of noise in every sample, seeded by the job and the number of the frame."""

import zlib

import numpy as np
from numpy.typing import NDArray

#: A step of 16 bits.
STEP = np.float32(1 / 32768)


class Noise:
    """Adds -1, 0 or 1 steps, the same for a frame however the audio is cut."""

    def mark(self, pcm: NDArray[np.float32], *, rate_hz: int, job: str, first_frame: int) -> NDArray[np.float32]:
        return pcm + STEP * noise(job, first_frame, len(pcm)).reshape(-1, 1).astype(np.float32)

    def detect(self, pcm: NDArray[np.float32], *, rate_hz: int) -> float:
        return 0.75


def noise(job: str, first_frame: int, num_frames: int) -> NDArray[np.int64]:
    """The steps of each frame."""
    frames = np.arange(first_frame, first_frame + num_frames, dtype=np.int64)
    return (frames * 7919 + zlib.crc32(job.encode())) % 3 - 1
