"""Frames of a WebSocket: masked ones pass as they came, however they are split; an unmasked one ends the connection."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.frames import MaskedFrames

MASK = b"\1\2\3\4"


class Reader:
    def __init__(self) -> None:
        self.data = b""
        self.has_ended = False

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        self.has_ended = True


def frame(size: int, *, masked: bool = True) -> bytes:
    bit = 0x80 if masked else 0
    if size < 126:
        length = bytes([bit | size])
    elif size < 1 << 16:
        length = bytes([bit | 126]) + size.to_bytes(2)
    else:
        length = bytes([bit | 127]) + size.to_bytes(8)
    return b"\x82" + length + (MASK if masked else b"") + bytes(size)


SIZES = st.sampled_from([0, 1, 2, 125, 126, 127, 300, 65535, 65536])


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *[cut % (len(data) + 1) for cut in cuts]})
    return [data[begin:end] for begin, end in pairwise(places)]


@given(st.lists(SIZES, max_size=6), st.lists(st.integers(0, 1 << 20), max_size=12))
def test_masked_frames_pass_as_they_came(sizes: list[int], cuts: list[int]) -> None:
    reader, sent = Reader(), b"".join(frame(size) for size in sizes)
    frames = MaskedFrames(reader)
    for part in split(sent, cuts):
        frames.feed_data(part)
    assert reader.data == sent


@given(st.lists(SIZES, max_size=4), SIZES, st.lists(st.integers(0, 1 << 20), max_size=12))
def test_an_unmasked_frame_is_one_that_the_reader_refuses(before: list[int], size: int, cuts: list[int]) -> None:
    passed = b"".join(frame(each) for each in before)
    reader = Reader()
    frames = MaskedFrames(reader)
    for part in split(passed + frame(size, masked=False), cuts):
        if reader.data.startswith(passed + b"\xf0\x80"):
            break
        frames.feed_data(part)
    assert reader.data == passed + b"\xf0\x80"


@pytest.mark.parametrize("size", [10, 1000, 100_000])
def test_one_byte_at_a_time(size: int) -> None:
    reader, sent = Reader(), frame(size) * 2
    frames = MaskedFrames(reader)
    for byte in sent:
        frames.feed_data(bytes([byte]))
    assert reader.data == sent


def test_the_end_is_passed_on() -> None:
    reader = Reader()
    MaskedFrames(reader).feed_eof()
    assert reader.has_ended
