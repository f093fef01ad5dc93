"""Measures of synthetic audio whose values are known."""

import numpy as np
import pytest

from bus.quality import SPEECH, Flag, Limits, Quality
from gpuworker.quality.meter import Meter, Subject
from tests.support.loudness import clip_runs
from tests.support.sounds import (
    Mono,
    babble,
    cut_in_a_sound,
    looping,
    s16le,
    sine,
    with_dropouts,
    with_noise,
)

RATE_HZ = 24_000
SPOKEN = babble(6.0, RATE_HZ)


def measured(signal: Mono, limits: Limits = SPEECH, rate_hz: int = RATE_HZ, **facts: object) -> Quality:
    meter = Meter(Subject(rate_hz=rate_hz, channels=1, limits=limits, **facts))
    meter.add(s16le(signal))
    return meter.finish()


@pytest.mark.parametrize("rate_hz", [16_000, 22_050, 24_000, 44_100, 48_000])
def test_a_full_sine_of_997_hz_has_the_loudness_that_the_recommendation_names(rate_hz: int) -> None:
    assert measured(sine(997, 3.0, rate_hz), rate_hz=rate_hz).loudness_lufs == pytest.approx(-3.01, abs=0.1)


def test_a_quiet_part_is_gated_out_of_the_loudness() -> None:
    # EBU Tech 3341, case 3: at -36, -23 and -36 dBFS in stereo it is -23 LUFS; one channel has half the power.
    parts = [sine(1000, seconds, 48_000, 10 ** (level / 20)) for level, seconds in ((-36, 1), (-23, 8), (-36, 1))]
    assert measured(np.concatenate(parts), rate_hz=48_000).loudness_lufs == pytest.approx(-26.0, abs=0.2)


def test_a_peak_between_samples_is_found() -> None:
    # A quarter of the rate, shifted by 45 degrees: all samples are 3 dB below the wave's peak.
    at = np.arange(RATE_HZ)
    peak = measured(0.5 * np.sin(np.pi / 2 * at + np.pi / 4)).true_peak_dbtp
    assert peak == pytest.approx(-6.02, abs=0.3)


def test_the_results_do_not_depend_on_the_sizes_of_the_blocks() -> None:
    signal = with_noise(with_dropouts(np.clip(SPOKEN * 6, -1, 1), RATE_HZ, 0.05, 3), 20)
    data = s16le(signal)
    chance = np.random.default_rng(3)
    meter, begin = Meter(Subject(rate_hz=RATE_HZ, channels=1, limits=SPEECH)), 0
    while begin < len(data):
        end = begin + 2 * int(chance.integers(1, 3000))
        meter.add(data[begin:end])
        begin = end
    assert meter.finish() == measured(signal)


def test_a_sound_voice_has_no_flags() -> None:
    quality = measured(SPOKEN)
    assert quality.flags == []
    assert (quality.clips, quality.dropouts) == (0, 0)


def test_silence_is_one_flag_alone() -> None:
    assert measured(np.zeros(3 * RATE_HZ)).flags == [Flag.SILENCE]
    assert measured(sine(100, 3.0, RATE_HZ, 0.0005)).flags == [Flag.SILENCE]


@pytest.mark.parametrize("gain", [3.0, 6.0, 20.0])
def test_clipping_is_flagged(gain: float) -> None:
    loud = np.clip(SPOKEN / np.abs(SPOKEN).max() * gain, -1, 1)
    quality = measured(loud)
    assert Flag.CLIPPING in quality.flags
    assert quality.clips == clip_runs(loud[:, None].astype(np.float32), 32767 / 32768)


@pytest.mark.parametrize("length_s", [0.005, 0.02, 0.1, 1.0])
def test_a_dropout_within_a_sound_is_flagged(length_s: float) -> None:
    quality = measured(with_dropouts(SPOKEN, RATE_HZ, length_s + 1 / RATE_HZ))
    assert quality.flags == [Flag.DROPOUT]
    assert quality.dropouts == 1


@pytest.mark.parametrize("begin", [0.995, 1.0, 1.005])
def test_a_dropout_across_two_windows_is_one(begin: float) -> None:
    signal = sine(200, 3.0, RATE_HZ, 0.3)
    signal[int(begin * RATE_HZ) + 20 : int((begin + 0.01) * RATE_HZ) + 20] = 0
    assert measured(signal, Limits()).dropouts == 1


def test_a_dropout_longer_than_a_window_is_one_and_zeros_at_the_end_are_none() -> None:
    signal = sine(200, 6.0, RATE_HZ, 0.3)
    signal[int(1.501 * RATE_HZ) : 4 * RATE_HZ] = 0
    signal[int(5.501 * RATE_HZ) :] = 0
    assert measured(signal, Limits()).dropouts == 1


@pytest.mark.parametrize("snr_db", [-10, 0, 10])
def test_noise_is_flagged(snr_db: float) -> None:
    assert Flag.NOISE in measured(with_noise(SPOKEN, snr_db)).flags


def test_noise_alone_is_flagged_for_any_model() -> None:
    noise = np.random.default_rng(4).standard_normal(3 * RATE_HZ) * 0.1
    assert measured(noise, Limits()).flags == [Flag.NOISE]


def test_audio_that_is_too_quiet_is_flagged() -> None:
    limits = Limits(min_loudness_lufs=-40.0)
    assert measured(SPOKEN * 0.03, limits).flags == [Flag.QUIET]
    assert measured(SPOKEN, limits).flags == []


def test_an_offset_is_flagged() -> None:
    assert Flag.OFFSET in measured(SPOKEN + 0.05).flags


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_an_end_within_a_sound_is_an_early_stop(share: float) -> None:
    assert measured(cut_in_a_sound(SPOKEN, RATE_HZ, share)).flags == [Flag.EARLY_STOP]


def test_audio_far_shorter_than_its_bound_is_an_early_stop() -> None:
    assert measured(SPOKEN, bound_s=18.0).flags == []
    assert measured(SPOKEN, bound_s=150.0).flags == [Flag.EARLY_STOP]


def test_the_length_counts_from_the_beginning_of_the_job() -> None:
    quality = measured(SPOKEN, bound_s=150.0, first_frame=30 * RATE_HZ)
    assert quality.flags == []
    assert quality.covers_from_frame == 30 * RATE_HZ


@pytest.mark.parametrize(("period_s", "copies"), [(0.4, 6), (1.0, 4), (2.0, 4), (3.5, 4)])
def test_a_loop_is_flagged_unless_its_text_is_one(period_s: float, copies: int) -> None:
    signal = looping(babble(12.0, RATE_HZ), RATE_HZ, period_s, copies)
    signal = np.concatenate([signal, np.zeros(RATE_HZ // 10)])
    quality = measured(signal, text="a text without a loop")
    assert Flag.REPETITION in quality.flags
    assert quality.repeats > SPEECH.max_repeats
    assert Flag.REPETITION not in measured(signal, text="no, no, no, no!").flags


def test_a_held_tone_is_no_loop() -> None:
    assert measured(sine(220, 6.0, RATE_HZ, 0.3), Limits(max_repeats=3)).flags == []


def test_a_long_gap_is_flagged() -> None:
    signal = np.concatenate([SPOKEN, np.zeros(3 * RATE_HZ), SPOKEN])
    assert measured(signal, Limits(max_gap_s=2.0)).flags == [Flag.GAP]
    assert measured(signal, Limits(max_gap_s=4.0)).flags == []


def test_a_narrow_spectrum_is_flagged() -> None:
    quality = measured(sine(300, 2.0, RATE_HZ, 0.3), Limits(min_bandwidth_hz=2000))
    assert quality.flags == [Flag.NARROW]
    assert quality.bandwidth_hz == pytest.approx(300, abs=60)


@pytest.mark.parametrize("frames", [1, 2, 100, 479, 480, 24_000, 24_001])
def test_any_length_can_be_measured(frames: int) -> None:
    assert measured(0.1 * np.ones(frames), Limits(max_offset=1)).offset == pytest.approx(0.1, abs=0.001)


def test_both_channels_are_measured() -> None:
    left, right = SPOKEN, np.clip(SPOKEN * 20, -1, 1)
    meter = Meter(Subject(rate_hz=RATE_HZ, channels=2, limits=SPEECH))
    meter.add(s16le(np.stack([left, right], axis=1).ravel()))
    assert Flag.CLIPPING in meter.finish().flags
