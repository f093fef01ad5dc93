"""Reads the clip of a voice that a job has as its input `reference`. Standard library and numpy only."""

import wave
from collections.abc import Mapping
from typing import Final

import numpy as np

from bus.voices import REFERENCE
from gpuworker.engine import Pcm, Rejected

#: For `Capabilities.inputs`.
CLIP_TEXT: Final = "A clip of the voice to speak with: WAV, mono, 16 bit, 24 kHz, up to 120 s."
RATE_HZ: Final = 24_000
MAX_CLIP_S: Final = 120.0


def read_clip(inputs: Mapping[str, str]) -> Pcm | None:
    """The clip of a job, float32, shape (frames, 1), in [-1, 1], `RATE_HZ`; None without one. `inputs`: of the job.

    Raises Rejected for a file of another kind, which a caller may have put as a blob of its own.
    """
    path = inputs.get(REFERENCE)
    if path is None:
        return None
    try:
        with wave.open(path, "rb") as file:
            form = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            num_frames = file.getnframes()
            if form != (1, 2, RATE_HZ) or not 0 < num_frames <= MAX_CLIP_S * RATE_HZ:
                raise Rejected(
                    f"inputs.{REFERENCE}",
                    f"must be mono, 16 bit, {RATE_HZ} Hz and have up to {MAX_CLIP_S:g} s; it has {form[0]} channels of "
                    f"{8 * form[1]} bits, {form[2]} Hz, {num_frames} frames",
                )
            data = file.readframes(num_frames)
    except (wave.Error, EOFError) as error:
        raise Rejected(f"inputs.{REFERENCE}", f"is no WAV file: {error}") from error
    samples = np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float32) / np.float32(32768)
    if not len(samples):
        raise Rejected(f"inputs.{REFERENCE}", "has no sound")
    return samples.reshape(-1, 1)
