"""Sound to encode, and what decoders of other people make of ours."""

import io
from typing import NamedTuple

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from gateway.codecs import Encoding, Format

Samples = NDArray[np.int16]
#: Rate and channels that a player knows from the content type.
_CONTAINERS = {"pcm": "s16le", "ulaw": "mulaw", "alaw": "alaw", "opus": "ogg", "aac": "aac"}
_HEADLESS = {"pcm", "ulaw", "alaw"}


def voice_like(seconds: float, rate_hz: int, channels: int = 1) -> Samples:
    """(frames, channels): tones that glide between 100 Hz and 2.6 kHz, never the same for a quarter of a second."""
    frames = round(seconds * rate_hz)
    time = np.arange(frames) / rate_hz
    parts = [
        np.sin(2 * np.pi * (base * time + 60 * np.sin(2.1 * time + base))) / (2 + index)
        for index, base in enumerate((220, 700, 2000))
    ]
    mono = 9000 * sum(parts) * (0.6 + 0.4 * np.sin(2 * np.pi * 3.1 * time))
    return np.stack([np.roll(mono, 37 * channel) for channel in range(channels)], axis=1).astype("<i2")


def sine(seconds: float, rate_hz: int, pitch_hz: float) -> bytes:
    """s16le, mono."""
    wave = 8000 * np.sin(2 * np.pi * pitch_hz * np.arange(round(seconds * rate_hz)) / rate_hz)
    return wave.astype("<i2").tobytes()


def pitch_hz(samples: Samples, rate_hz: int) -> float:
    """Of the strongest tone, to a hertz or so."""
    window = samples * np.hanning(len(samples))
    spectrum = np.abs(np.fft.rfft(window, 1 << 18))
    return float(np.argmax(spectrum) * rate_hz / (1 << 18))


class Tenant(NamedTuple):
    """A caller, as far as encoders know one."""

    owner: str = "tenant-a"


async def encoded(
    form: Format, rate_hz: int, pcm: Samples | bytes, block_frames: int, frames: int | None = None, tag: str = ""
) -> list[bytes]:
    """The bytes of each block, and last those of the end."""
    channels = 1 if isinstance(pcm, bytes) else pcm.shape[1]
    data = pcm if isinstance(pcm, bytes) else pcm.tobytes()
    step = block_frames * channels * 2
    encoding = Encoding(form, rate_hz, channels, frames, caller=Tenant("tenant-a"), tag=tag)
    try:
        return [await encoding.feed(data[at : at + step]) for at in range(0, len(data), step)] + [
            await encoding.finish()
        ]
    finally:
        encoding.close()


def decoded(data: bytes, form: Format, rate_hz: int, channels: int) -> tuple[Samples, int]:
    """((frames, channels), rate_hz) as libav decodes it. `rate_hz` and `channels` are for formats without a head."""
    how, options = _CONTAINERS.get(form.codec, form.codec), {}
    if form.codec in _HEADLESS:
        options = {"sample_rate": str(rate_hz), "ch_layout": "mono" if channels == 1 else "stereo"}
    parts: list[Samples] = []
    decoded_hz = rate_hz
    try:
        with av.open(io.BytesIO(data), "r", format=how, options=options) as container:
            stream = container.streams.audio[0]
            resampler = av.AudioResampler(format="s16", layout="mono" if channels == 1 else "stereo", rate=stream.rate)
            decoded_hz = stream.rate
            for frame in container.decode(stream):
                parts += [each.to_ndarray().reshape(-1, channels) for each in resampler.resample(frame)]
            if parts:
                parts += [each.to_ndarray().reshape(-1, channels) for each in resampler.resample(None)]
    except (av.error.EOFError, av.error.InvalidDataError):
        if parts:
            raise
    return (np.concatenate(parts) if parts else np.zeros((0, channels), np.int16)), decoded_hz


def likeness(said: Samples, decoded: Samples) -> tuple[float, int]:
    """How alike two mono sounds of one rate are (1: the same but for loudness), and by how many frames the second lags."""
    a, b = said.astype(np.float64), decoded.astype(np.float64)
    size = 1 << (len(a) + len(b)).bit_length()
    across = np.fft.irfft(np.fft.rfft(b, size) * np.conj(np.fft.rfft(a, size)), size)
    lag = int(np.argmax(across))
    lag -= size if lag > size // 2 else 0
    b = b[max(0, lag) :]
    a = a[max(0, -lag) :]
    shared = min(len(a), len(b))
    a, b = a[:shared], b[:shared]
    return float(a @ b / np.sqrt((a @ a) * (b @ b))), lag
