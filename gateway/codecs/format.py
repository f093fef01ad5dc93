"""Audio formats that a client can request. `FORMATS` is their only list, `libav.CONTAINERS` has the encoders."""

import struct
from typing import Final

import msgspec

from bus import wire
from bus.errors import Invalid
from bus.params import short

#: Bytes of one sample of one channel: audio is s16le.
SAMPLE_BYTES: Final = 2
_UNKNOWN_SIZE: Final = 0xFFFFFFFF
MIN_RATE_HZ: Final = 4_000
MAX_RATE_HZ: Final = 192_000
MIN_SPEED: Final = 0.25
MAX_SPEED: Final = 4.0


class Codec(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one codec."""

    content_type: str
    #: Whether its bytes come from an encoder of `gateway.codecs.libav`, which begins at the first frame: no part of a
    #: body can then be made without those before it.
    is_encoded: bool = True
    #: Whether its container has a place for a tag before the audio.
    has_tag: bool = False
    #: The sample rates that it takes, rising; empty: any from MIN_RATE_HZ to MAX_RATE_HZ.
    rates_hz: tuple[int, ...] = ()
    #: The rate if the client requests none; 0: the job's own.
    default_rate_hz: int = 0
    #: The bitrate if the client requests none; 0: the codec has no bitrate to choose.
    default_bitrate_bps: int = 0
    #: Least and greatest bitrate; (0, 0): the codec has no bitrate to choose.
    bitrates_bps: tuple[int, int] = (0, 0)
    #: Audio with more channels is mixed down.
    max_channels: int = 1 << 16
    #: Memory of one encoder, as measured: see "Slow readers" in docs/operations.md.
    encoder_bytes: int = 0


_MP3_RATES_HZ: Final = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_AAC_RATES_HZ: Final = (7_350, *_MP3_RATES_HZ, 64_000, 88_200, 96_000)
#: By the name that clients send. Errors, `/openapi.json` and the file endings of the APIs are made from this table.
FORMATS: Final = {
    "wav": Codec(content_type="audio/wav", is_encoded=False, has_tag=True),
    "pcm": Codec(content_type="audio/pcm", is_encoded=False),
    "mp3": Codec(
        content_type="audio/mpeg",
        has_tag=True,
        rates_hz=_MP3_RATES_HZ,
        default_bitrate_bps=128_000,
        bitrates_bps=(8_000, 320_000),
        max_channels=2,
        encoder_bytes=700 << 10,
    ),
    "opus": Codec(
        content_type="audio/ogg",
        has_tag=True,
        rates_hz=(8_000, 12_000, 16_000, 24_000, 48_000),
        default_bitrate_bps=64_000,
        bitrates_bps=(6_000, 256_000),
        max_channels=2,
        encoder_bytes=200 << 10,
    ),
    "aac": Codec(
        content_type="audio/aac",
        has_tag=True,
        rates_hz=_AAC_RATES_HZ,
        default_bitrate_bps=96_000,
        bitrates_bps=(16_000, 320_000),
        max_channels=2,
        encoder_bytes=400 << 10,
    ),
    "flac": Codec(content_type="audio/flac", has_tag=True, max_channels=8, encoder_bytes=7 << 20),
    "ulaw": Codec(content_type="audio/PCMU", is_encoded=False, default_rate_hz=8_000, max_channels=1),
    "alaw": Codec(content_type="audio/PCMA", is_encoded=False, default_rate_hz=8_000, max_channels=1),
}


#: Memory of the converter of a stream to another rate or speed.
_CONVERTER_BYTES: Final = 500 << 10


class Format(msgspec.Struct, frozen=True):
    """A codec of `FORMATS` and its options. Options from a client pass through `checked` before they are used."""

    codec: str
    #: 0: the codec's default, else the job's rate, else the next one that the codec takes.
    rate_hz: int = 0
    #: 0: the codec's default.
    bitrate_bps: int = 0
    #: Playing speed, with the pitch unchanged.
    speed: float = 1.0

    @property
    def content_type(self) -> str:
        """The value of the header; G.711 states its rate in it."""
        codec = FORMATS[self.codec]
        rate_hz = self.rate_hz or codec.default_rate_hz
        if not codec.default_rate_hz:
            return codec.content_type
        # RFC 2046: audio/basic is mu-law at 8 kHz, and at no other rate.
        return "audio/basic" if (self.codec, rate_hz) == ("ulaw", 8_000) else f"{codec.content_type};rate={rate_hz}"

    def content_type_of(self, rate_hz: int, channels: int) -> str:
        """The value of the header for audio of this rate, as encoded: PCM states it nowhere else."""
        if self.codec != PCM.codec:
            return self.content_type
        return f"{self.content_type};rate={rate_hz};channels={channels}"

    @property
    def extension(self) -> str:
        """The ending of a file's name, without the dot."""
        return self.codec

    @property
    def is_encoded(self) -> bool:
        """Whether its bytes come from an encoder, so that a body can only be made from its first byte on."""
        return FORMATS[self.codec].is_encoded

    def tag(self, job: wire.Job) -> str:
        """The text in a file that says that the audio of `job` is synthetic; "" if its marking or the format has none.

        It follows from the job alone, so equal requests get equal bytes.
        """
        if job.marking == "none" or not FORMATS[self.codec].has_tag:
            return ""
        return f"Synthetic audio; generator=Antiphon; model={job.model}; version={job.version}; job={job.id}."

    @property
    def is_raw(self) -> bool:
        """Whether its samples are those of the job as they are, unless they are converted."""
        return self.codec in {"pcm", "wav"}

    def media(self, rate_hz: int, channels: int) -> tuple[int, int]:
        """(rate_hz, channels) of the audio in the format, for a job of the given ones."""
        codec = FORMATS[self.codec]
        rate = self.rate_hz or codec.default_rate_hz or rate_hz
        if codec.rates_hz and rate not in codec.rates_hz:
            rate = min((each for each in codec.rates_hz if each >= rate), default=codec.rates_hz[-1])
        return rate, min(channels, codec.max_channels)

    def is_converted(self, rate_hz: int, channels: int) -> bool:
        """Whether a job's samples are resampled, mixed down or played at another speed before any encoding."""
        return self.speed != 1.0 or self.media(rate_hz, channels) != (rate_hz, channels)

    def encoder_bytes(self, rate_hz: int, channels: int) -> int:
        """Memory that encoding a stream of these takes, whatever its length."""
        converter_bytes = _CONVERTER_BYTES if self.is_converted(rate_hz, channels) else 0
        return FORMATS[self.codec].encoder_bytes + converter_bytes

    def frames(self, frames: int, rate_hz: int, channels: int) -> int:
        """Frames that a job's `frames` become, before those that a lossy codec adds."""
        out_hz, _ = self.media(rate_hz, channels)
        if out_hz == rate_hz and self.speed == 1.0:
            return frames
        return round(frames * out_hz / (rate_hz * self.speed))

    @property
    def bitrate(self) -> int:
        """Bits per second for the encoder; 0: the codec has no bitrate to choose."""
        return self.bitrate_bps or FORMATS[self.codec].default_bitrate_bps

    def expected_bytes(self, frames: int, rate_hz: int, channels: int) -> float:
        """The approximate size of a job's `frames`; for FLAC an upper bound."""
        out_hz, out_channels = self.media(rate_hz, channels)
        out_frames = self.frames(frames, rate_hz, channels)
        if self.bitrate:
            return out_frames / out_hz * self.bitrate / 8
        return out_frames * out_channels * SAMPLE_BYTES


WAV: Final = Format("wav")
PCM: Final = Format("pcm")


def format_named(name: str, field: str) -> Format:
    """The format with its default options. Raises Invalid on `field` that lists the accepted names."""
    if name not in FORMATS:
        raise Invalid(f"{field}: {short(name)!r} is not one of {', '.join(FORMATS)}", field)
    return Format(name)


def marks_of(form: Format, job: wire.Job) -> str:
    """The marks that the audio of `job` bears in a format, as `Antiphon-Marked` lists them, or `none`."""
    marks = ["tag"] if form.tag(job) else []
    return ", ".join(marks + ["inaudible"] * (job.marking == "inaudible")) or "none"


def checked(form: Format, *, rate: str = "rate", bitrate: str = "bitrate", speed: str = "speed") -> Format:
    """`form`, if it can be made. Raises Invalid with field, limit and value; the keywords are the fields' names."""
    codec = FORMATS[form.codec]
    if form.rate_hz:
        if codec.rates_hz and form.rate_hz not in codec.rates_hz:
            accepted = ", ".join(str(each) for each in codec.rates_hz)
            raise Invalid(f"{rate}: {form.codec} takes {accepted} Hz, not {form.rate_hz}", rate)
        if not MIN_RATE_HZ <= form.rate_hz <= MAX_RATE_HZ:
            raise Invalid(f"{rate}: must be from {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz, not {form.rate_hz}", rate)
    if form.bitrate_bps:
        least, most = codec.bitrates_bps
        if not most:
            raise Invalid(f"{bitrate}: {form.codec} has no bitrate to choose, not even {form.bitrate_bps}", bitrate)
        if not least <= form.bitrate_bps <= most:
            raise Invalid(
                f"{bitrate}: of {form.codec} must be from {least} to {most} bit/s, not {form.bitrate_bps}", bitrate
            )
    if not MIN_SPEED <= form.speed <= MAX_SPEED:
        raise Invalid(f"{speed}: must be from {MIN_SPEED} to {MAX_SPEED:g}, not {form.speed:g}", speed)
    return form


def wav_head(rate_hz: int, channels: int, frames: int | None, tag: str) -> bytes:
    """The head of `frames` frames; None: their number is not known yet. `tag`: its comment, "" for none.

    A size that is unknown, or too large for 32 bits, is written as 0xFFFFFFFF. The comment is in a chunk `LIST` of the
    kind `INFO` (Microsoft and IBM, "Multimedia Programming Interface and Data Specifications 1.0").
    """
    frame_bytes = channels * SAMPLE_BYTES
    form = struct.pack("<HHIIHH", 1, channels, rate_hz, rate_hz * frame_bytes, frame_bytes, 8 * SAMPLE_BYTES)
    chunks = b"WAVE" + _chunk(b"fmt ", form)
    if tag:
        chunks += _chunk(b"LIST", b"INFO" + _chunk(b"ICMT", tag.encode() + b"\0"))
    size = _UNKNOWN_SIZE if frames is None else min(frames * frame_bytes, _UNKNOWN_SIZE)
    riff = min(size + len(chunks) + 8, _UNKNOWN_SIZE)
    return b"RIFF" + riff.to_bytes(4, "little") + chunks + b"data" + size.to_bytes(4, "little")


def _chunk(name: bytes, data: bytes) -> bytes:
    """One chunk of RIFF, padded to an even size."""
    return name + len(data).to_bytes(4, "little") + data + bytes(len(data) % 2)
