"""PyAV: other rates and speeds, and the codecs that need a library. The only module that imports `av`.

Nothing here depends on how its input is cut into pieces: equal samples become equal bytes. Nothing here is for two
threads at once.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Final

import av
import av.error
import av.filter
import msgspec

from gateway.codecs.format import Format
from gateway.codecs.wave import SAMPLE_BYTES

#: atempo drops samples instead of blending them beyond this, so that larger changes are made in steps.
_TEMPO_STEP: Final = 2.0
#: Of silence behind the sound, in its own time: more than a resampler, and then all steps of tempo, hold back.
_TAIL_S: Final = 0.1
_TEMPO_TAIL_S: Final = 0.75
#: What atempo hears first must fill its window, or how it begins depends on the size of that; it waits as long anyway.
_TEMPO_HEAD_S: Final = 0.1
_BUFFER_BYTES: Final = 4096
#: By MPEG version, which is by rate. LAME would take the nearest by rules of its own.
_MP3_KBPS: Final = (
    (32_000, (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)),
    (16_000, (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)),
    (0, (8, 16, 24, 32, 40, 48, 56, 64)),
)


def _layout(channels: int) -> str:
    return {1: "mono", 2: "stereo"}.get(channels, f"{channels}c")


def _frame(pcm: bytes, rate_hz: int, channels: int, at: int) -> av.AudioFrame:
    """`pcm` as libav has it; `at`: the index of its first frame."""
    frame = av.AudioFrame(format="s16", layout=_layout(channels), samples=len(pcm) // (SAMPLE_BYTES * channels))
    frame.planes[0].update(pcm)
    frame.sample_rate, frame.pts, frame.time_base = rate_hz, at, Fraction(1, rate_hz)
    return frame


class Converter:
    """s16le PCM of one rate to s16le PCM of another, at another speed, with other channels; the length is exact."""

    def __init__(self, form: Format, rate_hz: int, channels: int) -> None:
        self._form, self._rate_hz, self._channels = form, rate_hz, channels
        out_hz, out_channels = form.media(rate_hz, channels)
        self._frame_bytes, self._out_frame_bytes = SAMPLE_BYTES * channels, SAMPLE_BYTES * out_channels
        #: Of the sound, without what is laid behind it; what was pushed, with it; what was given.
        self._frames = self._pushed_frames = self._out_frames = 0
        self._head = b""
        has_tempo = form.speed != 1.0
        self._head_bytes = round(_TEMPO_HEAD_S * rate_hz) * self._frame_bytes if has_tempo else 0
        self._tail_bytes = round((_TEMPO_TAIL_S if has_tempo else _TAIL_S) * rate_hz) * self._frame_bytes
        self._graph = av.filter.Graph()
        self._graph.threads = 1  # else each stream has as many as there are CPUs
        nodes = [
            self._graph.add_abuffer(
                format="s16", sample_rate=rate_hz, layout=_layout(channels), time_base=Fraction(1, rate_hz)
            )
        ]
        nodes += [self._graph.add("atempo", repr(step)) for step in _steps(form.speed)]
        out = f"sample_fmts=s16:sample_rates={out_hz}:channel_layouts={_layout(out_channels)}"
        nodes += [self._graph.add("aformat", out), self._graph.add("abuffersink")]
        self._graph.link_nodes(*nodes).configure()

    def feed(self, pcm: bytes) -> bytes:
        if not pcm:
            return b""
        self._frames += len(pcm) // self._frame_bytes
        if self._pushed_frames == 0:
            self._head += pcm
            if len(self._head) < self._head_bytes:
                return b""
            pcm, self._head = self._head, b""
        made = self._push(pcm)
        self._out_frames += len(made) // self._out_frame_bytes
        return made

    def finish(self) -> bytes:
        """The rest, to the frame: silence behind the sound drives out what filters hold, and is cut off again."""
        made = self._push(self._head + bytes(self._tail_bytes)) + self._flush()
        due = self._form.frames(self._frames, self._rate_hz, self._frame_bytes // SAMPLE_BYTES) - self._out_frames
        return made[: max(0, due) * self._out_frame_bytes]

    def close(self) -> None:
        """Nothing to give back: the graph goes with the last reference."""

    def _push(self, pcm: bytes) -> bytes:
        channels = self._frame_bytes // SAMPLE_BYTES
        self._graph.push(_frame(pcm, self._rate_hz, channels, self._pushed_frames))
        self._pushed_frames += len(pcm) // self._frame_bytes
        return self._pull()

    def _flush(self) -> bytes:
        self._graph.push(None)
        return self._pull()

    def _pull(self) -> bytes:
        parts: list[bytes] = []
        while True:
            try:
                frame = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return b"".join(parts)
            assert isinstance(frame, av.AudioFrame)
            # A plane may be longer than its samples.
            parts.append(bytes(frame.planes[0])[: frame.samples * self._out_frame_bytes])


def _steps(speed: float) -> list[float]:
    """Factors that make `speed`, each of which one filter does well."""
    steps: list[float] = []
    for limit in (_TEMPO_STEP, 1 / _TEMPO_STEP):
        while (speed > limit) if limit > 1 else (speed < limit):
            steps.append(limit)
            speed /= limit
    return [*steps, speed] if speed != 1.0 else steps


class _Container(msgspec.Struct, frozen=True):
    container: str
    codec: str
    #: Of the codec, then of the container.
    codec_options: Mapping[str, str] = MappingProxyType({})
    options: Mapping[str, str] = MappingProxyType({})


#: `reservoir=0`: every MP3 frame stands alone, so that a stream may be cut after any. No Xing frame or ID3: both are
#: for who can come back to the beginning. Small FLAC frames and Ogg pages: what was encoded leaves at once.
_CONTAINERS: Final = {
    "mp3": _Container(
        "mp3",
        "libmp3lame",
        {"reservoir": "0", "compression_level": "5"},
        {"write_xing": "0", "id3v2_version": "0"},
    ),
    "opus": _Container("ogg", "libopus", {"frame_duration": "20", "vbr": "constrained"}, {"page_duration": "20000"}),
    "aac": _Container("adts", "aac"),
    "flac": _Container("flac", "flac", {"frame_size": "1024"}),
}


class _Sink:
    """Write-only, without `seek`: the muxer has to stream."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


class Encoder:
    """s16le PCM to one encoded stream."""

    def __init__(self, form: Format, rate_hz: int, channels: int, frames: int | None) -> None:
        """`frames`: of the whole, None while nobody knows."""
        self._rate_hz, self._channels, self._frames, self._pushed_frames = rate_hz, channels, frames, 0
        how = _CONTAINERS[form.codec]
        self._sink = _Sink()
        # bitexact: no serial number at random, no version in the file. Equal sound is equal bytes in every process.
        options = {**how.options, "flush_packets": "1", "fflags": "+bitexact"}
        self._container = av.open(self._sink, "w", format=how.container, options=options, buffer_size=_BUFFER_BYTES)
        stream = self._container.add_stream(
            how.codec, rate=rate_hz, options=dict(how.codec_options), layout=_layout(channels)
        )
        assert isinstance(stream, av.AudioStream)
        self._stream = stream
        if form.bitrate:
            self._stream.bit_rate = _bitrate(form, rate_hz)
        self._container.start_encoding()
        self._head = self._sink.take()
        if form.codec == "flac" and frames is not None:
            self._head = _with_length(self._head, frames)

    def feed(self, pcm: bytes) -> bytes:
        if pcm:
            frame = _frame(pcm, self._rate_hz, self._channels, self._pushed_frames)
            # Its first frame makes the encoder's own filter.
            with _one_cpu() if not self._pushed_frames else contextlib.nullcontext():
                self._container.mux(self._stream.encode(frame))
            self._pushed_frames += frame.samples
        head, self._head = self._head, b""
        return head + self._sink.take()

    def finish(self) -> bytes:
        self._container.mux(self._stream.encode(None))
        self._container.close()
        head, self._head = self._head, b""
        return head + self._sink.take()

    def close(self) -> None:
        self._container.close()


def _bitrate(form: Format, rate_hz: int) -> int:
    if form.codec != "mp3":
        return form.bitrate
    kbps = next(table for least_hz, table in _MP3_KBPS if rate_hz >= least_hz)
    return 1000 * min(kbps, key=lambda each: abs(1000 * each - form.bitrate))


def _with_length(head: bytes, frames: int) -> bytes:
    """A FLAC head with the 36 bits filled in that say how many frames there are."""
    at = 21
    bits = int.from_bytes(head[at : at + 5], "big") & ~((1 << 36) - 1) | frames
    return head[:at] + bits.to_bytes(5, "big") + head[at + 5 :]


@contextlib.contextmanager
def _one_cpu() -> Iterator[None]:
    """For this thread. PyAV gives an encoder a filter graph with a thread for each CPU that it sees, and no say."""
    seen = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else set[int]()
    with contextlib.suppress(OSError):  # a sandbox may forbid it: more threads, then
        if seen:
            os.sched_setaffinity(0, {min(seen)})
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if seen:
                os.sched_setaffinity(0, seen)
