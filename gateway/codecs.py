"""From the log's s16le PCM to what a client asked for. So far what needs no encoder: raw PCM, and WAV."""

import struct
from typing import Final

import msgspec

from bus.errors import Invalid
from bus.params import short

SAMPLE_BYTES: Final = 2
WAV_HEAD_BYTES: Final = 44
_UNKNOWN_SIZE: Final = 0xFFFFFFFF
#: Known, not made yet.
_LATER: Final = ("mp3", "opus", "aac", "flac")


class Codec(msgspec.Struct, frozen=True):
    name: str
    content_type: str
    head_bytes: int

    def head(self, rate_hz: int, channels: int, frames: int | None = None) -> bytes:
        """What comes before the first sample. `frames`: None while nobody knows."""
        return wav_head(rate_hz, channels, frames) if self.name == "wav" else b""


PCM: Final = Codec("pcm", "audio/pcm", 0)
WAV: Final = Codec("wav", "audio/wav", WAV_HEAD_BYTES)
CODECS: Final = {codec.name: codec for codec in (WAV, PCM)}


def codec_named(name: str, field: str) -> Codec:
    """Raises Invalid on `field`, with what is accepted."""
    codec = CODECS.get(name)
    if codec is None:
        later = f"; {', '.join(_LATER)} come with a later version" if name in _LATER else ""
        raise Invalid(f"{field}: {short(name)!r} is not one of {', '.join(CODECS)}{later}", field)
    return codec


def wav_head(rate_hz: int, channels: int, frames: int | None) -> bytes:
    """The 44 bytes before s16le samples. Sizes nobody knows yet, or that 32 bits cannot hold, are 0xFFFFFFFF."""
    frame_bytes = channels * SAMPLE_BYTES
    size = _UNKNOWN_SIZE if frames is None else min(frames * frame_bytes, _UNKNOWN_SIZE)
    riff = min(size + WAV_HEAD_BYTES - 8, _UNKNOWN_SIZE)
    form = struct.pack("<HHIIHH", 1, channels, rate_hz, rate_hz * frame_bytes, frame_bytes, 8 * SAMPLE_BYTES)
    return b"RIFF" + riff.to_bytes(4, "little") + b"WAVEfmt \x10\0\0\0" + form + b"data" + size.to_bytes(4, "little")
