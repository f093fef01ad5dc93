"""Heads of WAV files."""

import io
import wave

import av
import pytest

from gateway.codecs.format import wav_head


@pytest.mark.parametrize("tag", ["", "odd", "even"])
@pytest.mark.parametrize("frames", [0, 1, 4800])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_with_this_head_is_read_by_another_library(frames: int, channels: int, tag: str) -> None:
    body = wav_head(44_100, channels, frames, tag) + bytes(frames * channels * 2)
    with wave.open(io.BytesIO(body)) as read:
        assert (read.getframerate(), read.getnchannels(), read.getsampwidth()) == (44_100, channels, 2)
        assert read.getnframes() == frames


def test_a_size_that_32_bits_cannot_hold_is_written_as_unknown() -> None:
    for frames in (1 << 33, None):
        head = wav_head(24_000, 1, frames, "")
        assert (head[4:8], head[40:]) == (b"\xff\xff\xff\xff", b"\xff\xff\xff\xff")


def test_a_file_whose_head_does_not_know_its_size_is_read_to_its_end() -> None:
    body = wav_head(24_000, 1, None, "a tag") + bytes(2 * 24_000)
    with wave.open(io.BytesIO(body)) as read:
        assert len(read.readframes(read.getnframes())) == 2 * 24_000
    with av.open(io.BytesIO(body)) as file:
        assert sum(frame.samples for frame in file.decode(audio=0)) == 24_000
        assert file.duration == av.time_base
