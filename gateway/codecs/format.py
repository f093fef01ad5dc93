"""What a client can ask for: a codec, and how it is to be used."""

import functools
import importlib.util
from typing import Final, Literal

import msgspec

from bus.errors import Invalid
from bus.params import short
from gateway.codecs.wave import SAMPLE_BYTES

CodecName = Literal["wav", "pcm", "mp3", "opus", "aac", "flac", "ulaw", "alaw"]
#: What installs PyAV.
EXTRA: Final = "av"
MIN_RATE_HZ: Final = 4_000
MAX_RATE_HZ: Final = 192_000
MIN_SPEED: Final = 0.25
MAX_SPEED: Final = 4.0


class _Codec(msgspec.Struct, frozen=True, kw_only=True):
    content_type: str
    #: All it takes, rising; none: any from MIN_RATE_HZ to MAX_RATE_HZ.
    rates_hz: tuple[int, ...] = ()
    #: Instead of the job's own; 0: the job's own.
    default_rate_hz: int = 0
    #: 0: it has no choice of bitrate.
    default_bitrate_bps: int = 0
    bitrates_bps: tuple[int, int] = (0, 0)
    max_channels: int = 1 << 16
    needs_av: bool = True


_MP3_RATES_HZ: Final = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_AAC_RATES_HZ: Final = (7_350, *_MP3_RATES_HZ, 64_000, 88_200, 96_000)
_CODECS: Final = {
    "wav": _Codec(content_type="audio/wav", needs_av=False),
    "pcm": _Codec(content_type="audio/pcm", needs_av=False),
    "mp3": _Codec(
        content_type="audio/mpeg",
        rates_hz=_MP3_RATES_HZ,
        default_bitrate_bps=128_000,
        bitrates_bps=(8_000, 320_000),
        max_channels=2,
    ),
    "opus": _Codec(
        content_type="audio/ogg",
        rates_hz=(8_000, 12_000, 16_000, 24_000, 48_000),
        default_bitrate_bps=64_000,
        bitrates_bps=(6_000, 256_000),
        max_channels=2,
    ),
    "aac": _Codec(
        content_type="audio/aac",
        rates_hz=_AAC_RATES_HZ,
        default_bitrate_bps=96_000,
        bitrates_bps=(16_000, 320_000),
        max_channels=2,
    ),
    "flac": _Codec(content_type="audio/flac", max_channels=8),
    "ulaw": _Codec(content_type="audio/basic", default_rate_hz=8_000, max_channels=1, needs_av=False),
    "alaw": _Codec(content_type="audio/PCMA", default_rate_hz=8_000, max_channels=1, needs_av=False),
}


class Format(msgspec.Struct, frozen=True):
    """Those of a door's own making pass through `checked` before they are used."""

    codec: str
    #: 0: the codec's own (telephony: 8 kHz), or the job's, or the next that the codec takes.
    rate_hz: int = 0
    #: 0: the codec's default.
    bitrate_bps: int = 0
    #: Of playing, pitch unchanged.
    speed: float = 1.0

    @property
    def content_type(self) -> str:
        known = _CODECS[self.codec]
        if known.max_channels > 1:
            return known.content_type
        rate_hz = self.rate_hz or known.default_rate_hz
        # RFC 2046: audio/basic is mu-law at 8 kHz, and at no other rate.
        name = known.content_type if rate_hz == 8_000 else {"ulaw": "audio/PCMU", "alaw": "audio/PCMA"}[self.codec]
        return name if name == "audio/basic" else f"{name};rate={rate_hz}"

    @property
    def extension(self) -> str:
        """Of a file's name, without the dot."""
        return self.codec

    @property
    def is_encoded(self) -> bool:
        """Whether its bytes can only be had by encoding from the beginning."""
        return _CODECS[self.codec].needs_av

    def media(self, rate_hz: int, channels: int) -> tuple[int, int]:
        """(rate_hz, channels) of what the bytes hold, for a job of the given ones."""
        known = _CODECS[self.codec]
        rate = self.rate_hz or known.default_rate_hz or rate_hz
        if known.rates_hz and rate not in known.rates_hz:
            rate = min((each for each in known.rates_hz if each >= rate), default=known.rates_hz[-1])
        return rate, min(channels, known.max_channels)

    def is_converted(self, rate_hz: int, channels: int) -> bool:
        """Whether a job's samples are computed anew for it, before any encoding."""
        return self.speed != 1.0 or self.media(rate_hz, channels) != (rate_hz, channels)

    def frames(self, frames: int, rate_hz: int, channels: int) -> int:
        """How many a job's `frames` become, before what a lossy codec puts around them."""
        out_hz, _ = self.media(rate_hz, channels)
        if out_hz == rate_hz and self.speed == 1.0:
            return frames
        return round(frames * out_hz / (rate_hz * self.speed))

    @property
    def bitrate(self) -> int:
        """Bits per second to ask of the encoder; 0: it has no choice."""
        return self.bitrate_bps or _CODECS[self.codec].default_bitrate_bps

    def expected_bytes(self, frames: int, rate_hz: int, channels: int) -> float:
        """Roughly how large a job's `frames` become; of FLAC, at most."""
        out_hz, out_channels = self.media(rate_hz, channels)
        out_frames = self.frames(frames, rate_hz, channels)
        if self.bitrate:
            return out_frames / out_hz * self.bitrate / 8
        return out_frames * out_channels * SAMPLE_BYTES


WAV: Final = Format("wav")
PCM: Final = Format("pcm")
FORMATS: Final = {name: Format(name) for name in _CODECS}


@functools.cache
def has_av() -> bool:
    """Whether PyAV is installed; without it there are PCM, WAV and G.711 at the sound's own speed."""
    return importlib.util.find_spec("av") is not None


def format_named(name: str, field: str) -> Format:
    """Raises Invalid on `field`, with what is accepted."""
    known = FORMATS.get(name)
    usable = [each for each in FORMATS if has_av() or not _CODECS[each].needs_av]
    if known is None:
        raise Invalid(f"{field}: {short(name)!r} is not one of {', '.join(usable)}", field)
    if name not in usable:
        raise Invalid(
            f"{field}: {name!r} needs PyAV, which this gateway does not have (pip install '{EXTRA}'); "
            f"it has {', '.join(usable)}",
            field,
        )
    return known


def checked(form: Format, *, rate: str = "rate", bitrate: str = "bitrate", speed: str = "speed") -> Format:
    """`form`, if it can be made. Raises Invalid with field, limit and value; the keywords are the fields' names."""
    known = _CODECS[form.codec]
    if form.rate_hz:
        if known.rates_hz and form.rate_hz not in known.rates_hz:
            accepted = ", ".join(str(each) for each in known.rates_hz)
            raise Invalid(f"{rate}: {form.codec} takes {accepted} Hz, and {form.rate_hz} was asked for", rate)
        if not MIN_RATE_HZ <= form.rate_hz <= MAX_RATE_HZ:
            raise Invalid(f"{rate}: must be from {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz, not {form.rate_hz}", rate)
    if form.bitrate_bps:
        least, most = known.bitrates_bps
        if not most:
            raise Invalid(f"{bitrate}: {form.codec} has none, and {form.bitrate_bps} was asked for", bitrate)
        if not least <= form.bitrate_bps <= most:
            raise Invalid(
                f"{bitrate}: of {form.codec} must be from {least} to {most} bit/s, not {form.bitrate_bps}", bitrate
            )
    if not MIN_SPEED <= form.speed <= MAX_SPEED:
        raise Invalid(f"{speed}: must be from {MIN_SPEED} to {MAX_SPEED:g}, not {form.speed:g}", speed)
    if form.speed != 1.0 and not has_av():
        raise Invalid(f"{speed}: needs PyAV, which this gateway does not have (pip install '{EXTRA}')", speed)
    return form
