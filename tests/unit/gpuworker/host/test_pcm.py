"""float32 to s16le: exact for every 16-bit value, clipped, and NaN is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuworker.host.group import NotFinite, to_s16le


def test_every_16_bit_sample_survives_the_way_through_float32() -> None:
    samples = np.arange(-32768, 32768, dtype=np.int32)
    pcm = (samples.astype(np.float32) / np.float32(32768)).reshape(-1, 1)
    assert to_s16le(pcm) == samples.astype("<i2").tobytes()


@given(st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=50))
def test_out_of_range_audio_is_clipped_and_never_wraps(values: list[float]) -> None:
    got = np.frombuffer(to_s16le(np.array(values, np.float32).reshape(-1, 1)), "<i2")
    for value, sample in zip(values, got, strict=True):
        assert sample == max(-32768, min(32767, np.rint(np.float32(value) * np.float32(32768))))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_audio_that_is_not_finite_is_refused_with_its_place(bad: float) -> None:
    pcm = np.zeros((10, 2), np.float32)
    pcm[7, 1] = bad
    with pytest.raises(NotFinite, match=r"1 samples are not finite, the first at frame 7"):
        to_s16le(pcm)


def test_the_callers_block_is_left_as_it_was() -> None:
    pcm = np.full((4, 1), 0.25, np.float32)
    to_s16le(pcm)
    assert (pcm == 0.25).all()


def test_stereo_is_interleaved() -> None:
    pcm = np.array([[0.5, -0.5], [0.25, -0.25]], np.float32)
    assert np.frombuffer(to_s16le(pcm), "<i2").tolist() == [16384, -16384, 8192, -8192]
