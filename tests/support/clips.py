"""Clips of voices, and files that are none."""

import io
import math
import struct
import wave

from aiohttp import ClientSession, FormData


def tone_clip(seconds: float = 1.5, rate_hz: int = 24_000, pitch_hz: float = 220.0, level: float = 0.4) -> bytes:
    """A WAV file with a sine."""
    count = int(seconds * rate_hz)
    step = 2 * math.pi * pitch_hz / rate_hz
    samples = struct.pack(f"<{count}h", *(round(32767 * level * math.sin(step * i)) for i in range(count)))
    return wav(samples, rate_hz)


def wav(samples: bytes, rate_hz: int = 24_000) -> bytes:
    """A WAV file of mono s16le."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples)
    return out.getvalue()


def samples_of(data: bytes) -> bytes:
    """The samples of a WAV file."""
    with wave.open(io.BytesIO(data)) as file:
        return file.readframes(file.getnframes())


async def upload(
    http: ClientSession, name: str, clip: bytes, headers: dict[str, str] | None = None, **fields: str
) -> tuple[int, dict[str, object]]:
    """`POST /v1/audio/voices`: the status and the answer."""
    form = FormData({"name": name, **fields})
    form.add_field("audio_sample", io.BytesIO(clip), filename="clip.wav", content_type="audio/wav")
    async with http.post("/v1/audio/voices", data=form, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)
