"""PyAV: conversion of rate, speed and channels, and the encoders. The only module that imports `av`.

The output does not depend on how the input is cut into pieces: equal samples become equal bytes. No object here may be
used by two threads at once.
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

from gateway.codecs.format import SAMPLE_BYTES, Format

#: Beyond this factor `atempo` drops samples instead of blending them, so larger changes are made in steps.
_TEMPO_STEP: Final = 2.0
#: Silence that is appended to the audio, in its own time: longer than a resampler, or all steps of tempo, hold back.
_TAIL_S: Final = 0.1
_TEMPO_TAIL_S: Final = 0.75
#: The first piece for `atempo` must fill its window, otherwise its output depends on the size of that piece.
_TEMPO_HEAD_S: Final = 0.1
_BUFFER_BYTES: Final = 4096


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """How libav encodes one format of `FORMATS`."""

    #: libav's names of the container and of the encoder in it.
    container: str
    encoder: str
    encoder_options: Mapping[str, str] = MappingProxyType({})
    container_options: Mapping[str, str] = MappingProxyType({})
    #: Those by which it writes a tag at its beginning; without them it has no place for one, or writes it anyway.
    tag_options: Mapping[str, str] = MappingProxyType({})
    #: (least sample rate, bitrates in kbit/s), highest rate first: the nearest of them is used; empty: any bitrate.
    bitrates_kbps: tuple[tuple[int, tuple[int, ...]], ...] = ()
    #: Offset of the five bytes of the head whose last 36 bits hold the number of frames; 0: the head has no such field.
    num_frames_at: int = 0


#: By MPEG version, which follows from the rate. LAME would choose the nearest by rules of its own.
_MP3_KBPS: Final = (
    (32_000, (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)),
    (16_000, (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)),
    (0, (8, 16, 24, 32, 40, 48, 56, 64)),
)
#: By the name in `FORMATS`.
CONTAINERS: Final = {
    "mp3": Container(
        container="mp3",
        encoder="libmp3lame",
        # No bit reservoir: every frame stands alone, so that a stream may be cut after any of them.
        encoder_options={"reservoir": "0", "compression_level": "5"},
        # No Xing frame: it has to be written once the end is known.
        container_options={"write_xing": "0", "id3v2_version": "0"},
        tag_options={"id3v2_version": "3"},
        bitrates_kbps=_MP3_KBPS,
    ),
    "opus": Container(
        container="ogg",
        encoder="libopus",
        encoder_options={"frame_duration": "20", "vbr": "constrained"},
        # Small pages, so that encoded audio leaves at once.
        container_options={"page_duration": "20000"},
    ),
    # ADTS itself has no tags; decoders look for its sync word, which no ID3 tag of ASCII contains.
    "aac": Container(container="adts", encoder="aac", tag_options={"write_id3v2": "1"}),
    "flac": Container(
        container="flac",
        encoder="flac",
        # Small frames, so that encoded audio leaves at once.
        encoder_options={"frame_size": "1024"},
        num_frames_at=21,
    ),
}


def _layout(channels: int) -> str:
    return {1: "mono", 2: "stereo"}.get(channels, f"{channels}c")


def _frame(pcm: bytes, rate_hz: int, channels: int, at: int) -> av.AudioFrame:
    """`pcm` as a frame of libav; `at`: the index of its first sample."""
    frame = av.AudioFrame(format="s16", layout=_layout(channels), samples=len(pcm) // (SAMPLE_BYTES * channels))
    frame.planes[0].update(pcm)
    frame.sample_rate = rate_hz
    frame.pts = at
    frame.time_base = Fraction(1, rate_hz)
    return frame


class Converter:
    """s16le PCM to s16le PCM of another rate, speed and number of channels; the length is exact."""

    def __init__(self, form: Format, rate_hz: int, channels: int) -> None:
        """`rate_hz`, `channels`: of the input; the output is as `form.media` says."""
        self._form = form
        self._rate_hz = rate_hz
        self._channels = channels
        out_hz, out_channels = form.media(rate_hz, channels)
        self._frame_bytes = SAMPLE_BYTES * channels
        self._out_frame_bytes = SAMPLE_BYTES * out_channels
        #: Frames of the audio; pushed into the graph, the silence at the end included; returned.
        self._num_frames = 0
        self._num_pushed = 0
        self._num_returned = 0
        self._head = b""
        has_tempo = form.speed != 1.0
        self._head_bytes = round(_TEMPO_HEAD_S * rate_hz) * self._frame_bytes if has_tempo else 0
        self._tail_bytes = round((_TEMPO_TAIL_S if has_tempo else _TAIL_S) * rate_hz) * self._frame_bytes
        self._graph = av.filter.Graph()
        self._graph.threads = 1  # the default is one per CPU, for each stream
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
        """Convert more PCM; returns the output that is ready."""
        if not pcm:
            return b""
        self._num_frames += len(pcm) // self._frame_bytes
        if self._num_pushed == 0:
            self._head += pcm
            if len(self._head) < self._head_bytes:
                return b""
            pcm = self._head
            self._head = b""
        made = self._push(pcm)
        self._num_returned += len(made) // self._out_frame_bytes
        return made

    def finish(self) -> bytes:
        """The rest, exact to the frame: silence drives out the audio that the filters hold, and is cut off again."""
        made = self._push(self._head + bytes(self._tail_bytes)) + self._flush()
        due = self._form.frames(self._num_frames, self._rate_hz, self._channels) - self._num_returned
        return made[: max(0, due) * self._out_frame_bytes]

    def close(self) -> None:
        """Nothing to release: the graph is freed with its last reference."""

    def _push(self, pcm: bytes) -> bytes:
        self._graph.push(_frame(pcm, self._rate_hz, self._channels, self._num_pushed))
        self._num_pushed += len(pcm) // self._frame_bytes
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
    """Factors whose product is `speed`, each small enough for one filter."""
    steps: list[float] = []
    for limit in (_TEMPO_STEP, 1 / _TEMPO_STEP):
        while (speed > limit) if limit > 1 else (speed < limit):
            steps.append(limit)
            speed /= limit
    return [*steps, speed] if speed != 1.0 else steps


class _Sink:
    """A write-only file without `seek`, so that the muxer has to stream."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """The bytes written since the last call."""
        data = b"".join(self._parts)
        self._parts.clear()
        return data


class Encoder:
    """s16le PCM to one encoded stream."""

    def __init__(self, form: Format, rate_hz: int, channels: int, num_frames: int | None, tag: str) -> None:
        """`rate_hz`, `channels`: of the input. `num_frames`: of the whole stream; None if not known.

        `tag`: the comment in its head; "" for none.
        """
        self._rate_hz = rate_hz
        self._channels = channels
        self._num_pushed = 0
        how = CONTAINERS[form.codec]
        self._sink = _Sink()
        # bitexact: no random serial number, no version in the file. Equal audio is equal bytes in every process.
        options = {**how.container_options, "flush_packets": "1", "fflags": "+bitexact"}
        options |= how.tag_options if tag else {}
        self._container = av.open(self._sink, "w", format=how.container, options=options, buffer_size=_BUFFER_BYTES)
        stream = self._container.add_stream(
            how.encoder, rate=rate_hz, options=dict(how.encoder_options), layout=_layout(channels)
        )
        assert isinstance(stream, av.AudioStream)
        self._stream = stream
        if form.bitrate:
            self._stream.bit_rate = _bitrate_bps(how, form.bitrate, rate_hz)
        if tag:
            self._container.metadata["comment"] = tag
        self._container.start_encoding()
        self._head = self._sink.take()
        if how.num_frames_at and num_frames is not None:
            self._head = _with_num_frames(self._head, how.num_frames_at, num_frames)

    def feed(self, pcm: bytes) -> bytes:
        """Encode more PCM; returns the bytes that are ready, the head before the first."""
        if pcm:
            frame = _frame(pcm, self._rate_hz, self._channels, self._num_pushed)
            # The first frame makes PyAV create the encoder's filter graph.
            with _one_cpu() if not self._num_pushed else contextlib.nullcontext():
                self._container.mux(self._stream.encode(frame))
            self._num_pushed += frame.samples
        return self._take()

    def finish(self) -> bytes:
        """The rest of the stream."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._take()

    def close(self) -> None:
        """Free the encoder; idempotent."""
        self._container.close()

    def _take(self) -> bytes:
        head = self._head
        self._head = b""
        return head + self._sink.take()


def _bitrate_bps(how: Container, wanted_bps: int, rate_hz: int) -> int:
    if not how.bitrates_kbps:
        return wanted_bps
    kbps = next(table for least_hz, table in how.bitrates_kbps if rate_hz >= least_hz)
    return 1000 * min(kbps, key=lambda each: abs(1000 * each - wanted_bps))


def _with_num_frames(head: bytes, at: int, num_frames: int) -> bytes:
    """`head` with `num_frames` in the last 36 bits of the five bytes at `at`."""
    bits = int.from_bytes(head[at : at + 5], "big") & ~((1 << 36) - 1) | num_frames
    return head[:at] + bits.to_bytes(5, "big") + head[at + 5 :]


@contextlib.contextmanager
def _one_cpu() -> Iterator[None]:
    """Show this thread one CPU. PyAV gives an encoder's filter graph a thread per visible CPU, without a setting."""
    seen = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else set[int]()
    with contextlib.suppress(OSError):  # a sandbox may forbid it; the graph then has more threads
        if seen:
            os.sched_setaffinity(0, {min(seen)})
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if seen:
                os.sched_setaffinity(0, seen)
