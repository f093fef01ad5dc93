"""What a client can ask for: a codec, and how it is to be used."""

from typing import Final

import msgspec

from bus.errors import Invalid
from bus.params import short

_CONTENT_TYPES: Final = {"pcm": "audio/pcm", "wav": "audio/wav"}


class Format(msgspec.Struct, frozen=True):
    codec: str
    #: 0: the job's own.
    rate_hz: int = 0
    #: 0: the codec's default.
    bitrate_bps: int = 0
    #: Of playing, pitch unchanged.
    speed: float = 1.0

    @property
    def content_type(self) -> str:
        return _CONTENT_TYPES[self.codec]

    @property
    def extension(self) -> str:
        return self.codec


WAV: Final = Format("wav")
PCM: Final = Format("pcm")
FORMATS: Final = {each.codec: each for each in (WAV, PCM)}


def format_named(name: str, field: str) -> Format:
    """Raises Invalid on `field`, with what is accepted."""
    known = FORMATS.get(name)
    if known is None:
        raise Invalid(f"{field}: {short(name)!r} is not one of {', '.join(FORMATS)}", field)
    return known
