"""Reading the head of a WAV that streams."""

import struct

import pytest

from ops.commands import wav

RATE_HZ = 24_000
#: As a server writes it that does not know the length yet.
STREAMING_HEAD = b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE_HZ, 2 * RATE_HZ, 2, 16)
STREAMING_HEAD += b"data\xff\xff\xff\xff"


@pytest.mark.parametrize("cut", range(0, 44, 5))
def test_a_head_that_has_not_arrived_yet_is_waited_for(cut: int) -> None:
    assert wav.parse(STREAMING_HEAD[:cut]) is None
    assert wav.parse(STREAMING_HEAD) == wav.WavHead(RATE_HZ, 1, 16, 44)


def test_chunks_before_the_data_are_skipped() -> None:
    head = STREAMING_HEAD[:36] + b"LIST" + struct.pack("<I", 3) + b"abc\0" + STREAMING_HEAD[36:]
    parsed = wav.parse(head)
    assert parsed is not None
    assert parsed.data_at == len(head)
    assert parsed.seconds(len(head) + 2 * RATE_HZ) == 1.0
