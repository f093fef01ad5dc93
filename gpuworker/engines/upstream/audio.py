"""Audio as servers send it, decoded while it arrives: raw s16le, and RIFF WAV.

WAV: RIFF, "Multimedia Programming Interface and Data Specifications 1.0"; a size of 0 or above 2 GiB in the head of a
stream stands for "until the end".
"""

import struct
from typing import Final, NamedTuple, Protocol

import numpy as np

from gpuworker.engine import Pcm
from gpuworker.engines.upstream.errors import BadAudio, UpstreamFailed

#: Most bytes before the samples.
_HEAD_BYTES: Final = 64 << 10
_OPEN_BYTES: Final = 0x7FFF_0000
_PCM: Final = 1
_FLOAT: Final = 3
_EXTENSIBLE: Final = 0xFFFE


class Shape(NamedTuple):
    """The form of the audio that a model's options promise."""

    #: The server, for messages.
    name: str
    rate_hz: int
    channels: int

    def check(self, rate_hz: int, channels: int) -> None:
        """Raises UpstreamFailed for audio of another form."""
        if (rate_hz, channels) != (self.rate_hz, self.channels):
            raise UpstreamFailed(
                f"{self.name} sends {rate_hz} Hz, {channels} channels; its options say rate_hz {self.rate_hz},"
                f" channels {self.channels}"
            )


class Decoder(Protocol):
    """Takes bytes in pieces of any size."""

    def feed(self, data: bytes) -> Pcm:
        """The samples that `data` completes, float32 (frames, channels), perhaps none. Raises BadAudio."""
        ...

    def finish(self) -> None:
        """The input has ended. Raises BadAudio if it may not end here."""
        ...


class RawDecoder:
    """Interleaved samples, s16le unless the sample format is another one. Bytes of half a frame wait for the rest."""

    def __init__(self, channels: int, sample: str = "<i2") -> None:
        """`sample`: numpy's name of the type; `<i3` stands for 24 bits."""
        self._channels = channels
        self._sample = sample
        self._frame_bytes = int(sample[-1]) * channels
        self._rest = b""

    def feed(self, data: bytes) -> Pcm:
        """As Decoder."""
        data = self._rest + data
        whole = len(data) - len(data) % self._frame_bytes
        self._rest = data[whole:]
        return _floats(data[:whole], self._sample).reshape(-1, self._channels)

    def finish(self) -> None:
        """As Decoder."""
        if self._rest:
            raise BadAudio(f"the audio ends within a frame, {len(self._rest)} bytes of {self._frame_bytes}")


class WavDecoder:
    """A WAV stream: its head says the form of the samples, and perhaps how many there are."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._head = b""
        self._raw: RawDecoder | None = None
        #: Bytes of samples that the head promised and that have not arrived; None: until the end.
        self._left: int | None = None

    def feed(self, data: bytes) -> Pcm:
        """As Decoder. Raises UpstreamFailed if the head says another rate or number of channels."""
        if self._raw is None:
            self._head += data
            begin = self._open()
            if begin is None:
                return np.zeros((0, self._shape.channels), np.float32)
            data, self._head = self._head[begin:], b""
        assert self._raw is not None
        if self._left is not None:
            data = data[: self._left]  # chunks behind the samples are no audio
            self._left -= len(data)
        return self._raw.feed(data)

    def finish(self) -> None:
        """As Decoder."""
        if self._raw is None:
            raise BadAudio(f"the answer ended within the head of its WAV, after {len(self._head)} bytes")
        if self._left:
            raise BadAudio(f"the WAV ended {self._left:,} bytes before the length in its head")
        self._raw.finish()

    def _open(self) -> int | None:
        """Read the head: where the samples begin; None while it is incomplete."""
        head = self._head
        if not b"RIFF".startswith(head[:4]) or (len(head) >= 12 and head[8:12] != b"WAVE"):
            raise BadAudio(f"the answer begins with {head[:24]!r}, which is no WAV")
        at, form = 12, b""
        while len(head) >= at + 8:
            name, size = head[at : at + 4], struct.unpack_from("<I", head, at + 4)[0]
            if name == b"data":
                self._raw = self._samples(form)
                self._left = None if size == 0 or size >= _OPEN_BYTES else size
                return at + 8
            if name == b"fmt ":
                form = head[at + 8 : at + 8 + size]
            at += 8 + size + size % 2
            if at > _HEAD_BYTES:
                break
        if at > _HEAD_BYTES or len(head) > _HEAD_BYTES:
            raise BadAudio(f"the WAV has no samples within its first {_HEAD_BYTES:,} bytes")
        return None

    def _samples(self, form: bytes) -> RawDecoder:
        if len(form) < 16:
            raise BadAudio("the WAV does not say its format")
        tag, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", form)
        if tag == _EXTENSIBLE and len(form) >= 26:
            (tag,) = struct.unpack_from("<H", form, 24)
        sample = {(_PCM, 16): "<i2", (_PCM, 24): "<i3", (_PCM, 32): "<i4", (_FLOAT, 32): "<f4"}.get((tag, bits))
        if sample is None:
            raise BadAudio(f"the WAV has format {tag} of {bits} bits; known are PCM of 16, 24, 32 and float of 32")
        self._shape.check(rate_hz, channels)
        return RawDecoder(channels, sample)


def _floats(data: bytes, sample: str) -> Pcm:
    """Samples in [-1, 1], whatever their type."""
    if sample == "<i2":
        return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32_768)
    if sample == "<f4":
        return np.clip(np.frombuffer(data, "<f4").astype(np.float32), -1.0, 1.0)
    if sample == "<i3":
        padded = np.zeros((len(data) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        data = padded.tobytes()
    return (np.frombuffer(data, "<i4") / 2_147_483_648.0).astype(np.float32)
