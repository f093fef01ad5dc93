"""Audio of upstream servers, decoded from pieces of any size, and refused where it is none or not all of it."""

import base64
import json
import struct
from collections.abc import Iterator

import numpy as np
import pytest

from gpuworker.engines.upstream.audio import Decoder, RawDecoder, Shape, WavDecoder
from gpuworker.engines.upstream.errors import BadAudio, UpstreamFailed
from gpuworker.engines.upstream.sse import EventDecoder
from gpuworker.host.group import to_s16le
from tests.support.tone import tone_pcm
from tests.support.upstream_servers import wav_head

SHAPE = Shape("upstream x", 24_000, 1)
PCM = tone_pcm(0.05)


def decoded(decoder: Decoder, data: bytes, size: int) -> bytes:
    """All of `data` in pieces of `size`, as s16le."""
    blocks = [decoder.feed(data[at : at + size]) for at in range(0, len(data), size)]
    decoder.finish()
    return to_s16le(np.concatenate(blocks))


def events(data: bytes) -> bytes:
    def each() -> Iterator[str]:
        for at in range(0, len(data), 333):
            audio = base64.b64encode(data[at : at + 333]).decode()
            yield f"event: speech.audio.delta\r\ndata: {json.dumps({'type': 'speech.audio.delta', 'audio': audio})}\r\n"
        yield 'data: {"type":"speech.audio.done"}\n\n'

    return "\n".join(each()).encode()


@pytest.mark.parametrize("size", [1, 7, 44, 45, 1000, 1 << 20])
@pytest.mark.parametrize("num_bytes", [len(PCM), 0, 0xFFFF_FFFF, 0x7FFF_FFFF])
def test_a_wav_is_its_samples_whatever_its_head_says_of_an_open_end(size: int, num_bytes: int) -> None:
    assert decoded(WavDecoder(SHAPE), wav_head(num_bytes) + PCM, size) == PCM


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_raw_samples_and_events_are_the_same_samples(size: int) -> None:
    assert decoded(RawDecoder(1), PCM, size) == PCM
    assert decoded(EventDecoder(RawDecoder(1)), events(PCM), size) == PCM
    assert decoded(EventDecoder(WavDecoder(SHAPE)), events(wav_head(0xFFFF_FFFF) + PCM), size) == PCM


def test_the_older_events_of_sglang_are_read_too() -> None:
    audio = {"object": "audio.speech.chunk", "audio": {"data": base64.b64encode(PCM).decode()}}
    assert decoded(EventDecoder(RawDecoder(1)), f"data: {json.dumps(audio)}\n\ndata: [DONE]\n\n".encode(), 99) == PCM


@pytest.mark.parametrize(("tag", "bits", "kind"), [(1, 24, "<i4"), (1, 32, "<i4"), (3, 32, "<f4")])
def test_wider_samples_are_read_and_chunks_around_them_skipped(tag: int, bits: int, kind: str) -> None:
    samples = np.frombuffer(PCM, "<i2").astype(np.float64) / 32_768
    data = samples.astype("<f4").tobytes() if kind == "<f4" else (samples * 2_147_483_648).astype("<i4").tobytes()
    if bits == 24:
        data = np.frombuffer(data, np.uint8).reshape(-1, 4)[:, 1:].tobytes()
    form = struct.pack("<IHHIIHH", 16, tag, 1, 24_000, 24_000 * bits // 8, bits // 8, bits)
    junk = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    head = b"RIFF\0\0\0\0WAVE" + junk + b"fmt " + form + b"data" + struct.pack("<I", len(data))
    assert decoded(WavDecoder(SHAPE), head + data + junk, 100) == PCM


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<!DOCTYPE html><html>", "begins with b'<!DOCTYPE html><html>', which is no WAV"),
        (wav_head(len(PCM)) + PCM[:-2], "ended 2 bytes before the length in its head"),
        (wav_head(0) + PCM[:-1], "ends within a frame, 1 bytes of 2"),
        (wav_head(0)[:30], "ended within the head of its WAV, after 30 bytes"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", "does not say its format"),
        (wav_head(0).replace(b"\x10\x00data", b"\x08\x00data"), "format 1 of 8 bits"),
        (b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\x0f" + bytes(2000), "no samples within its first 65,536 bytes"),
    ],
)
def test_a_wav_that_is_none_or_cut_short_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(BadAudio) as refusal:
        decoded(WavDecoder(SHAPE), data, 1 << 20)
    assert message in str(refusal.value)


def test_another_rate_than_the_options_say_names_both() -> None:
    with pytest.raises(UpstreamFailed, match="upstream x sends 44100 Hz, 2 channels; its options say rate_hz 24000"):
        WavDecoder(SHAPE).feed(wav_head(0, 44_100, 2))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (events(PCM).replace(b"speech.audio.done", b"x"), "ended without the one that says so"),
        (b'data: {"type":"speech.audio.error","error":{"message":"out of blocks"}}\n', "out of blocks"),
        (b"data: {oops\n", "is not JSON: '{oops'"),
        (b'data: {"audio":"%%%"}\n', "not base64"),
        (b"data: " + bytes(9 << 20), "an event has more than 8,388,608 bytes"),
    ],
)
def test_events_that_are_wrong_or_end_early_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(BadAudio) as refusal:
        decoded(EventDecoder(RawDecoder(1)), data, 1 << 24)
    assert message in str(refusal.value)
