"""Words that a free recogniser understands: of a published neural voice, of espeak-ng, and of speech with a piece lost.

And how soon voices are heard."""

import pytest

from ops.bench import first_sound, quality
from ops.bench.judge import RATE_HZ, Judge
from tests.support import assets
from tests.support.piper_voice import random_voices

pytestmark = pytest.mark.slow

VOICE = ("piper", "en_US-joe-medium")


@pytest.fixture(scope="module")
def judge() -> Judge:
    pytest.importorskip("faster_whisper", reason="test asset faster_whisper is not installed")
    return Judge(assets.whisper_tiny_en())


@pytest.fixture(scope="module")
def recordings() -> dict[tuple[str, str], list[bytes]]:
    return quality.record(["en_US-joe-medium", "en-us"], str(assets.piper_joe().parent))


def test_a_neural_voice_is_understood(recordings: dict[tuple[str, str], list[bytes]], judge: Judge) -> None:
    neural, espeak = (quality.judged(*voice, spoken, judge) for voice, spoken in recordings.items())
    print(quality.report([neural, espeak], as_json=False))
    assert neural.error_rate <= 0.08
    assert neural.worst <= 0.35
    assert espeak.error_rate <= 0.25


@pytest.mark.parametrize("index", [0, 4, 11, 16])
def test_half_a_second_lost_in_the_middle_is_found(
    recordings: dict[tuple[str, str], list[bytes]], judge: Judge, index: int
) -> None:
    whole = recordings[VOICE]
    middle = len(whole[index]) // 4 * 2
    half = RATE_HZ // 4 * 2
    cut = [*whole[:index], whole[index][: middle - half] + whole[index][middle + half :], *whole[index + 1 :]]
    before = quality.judged(*VOICE, whole, judge).sentences[index].errors
    assert quality.judged(*VOICE, cut, judge).sentences[index].errors > before


def test_noise_and_silence_have_no_words(judge: Judge) -> None:
    import numpy as np

    noise = np.random.default_rng(1).standard_normal(5 * RATE_HZ) * 3000
    assert judge.recognise(bytes(10 * RATE_HZ)) == ""
    assert judge.recognise(noise.astype("<i2").tobytes()) == ""


def test_the_first_sound_of_voices_is_measured_on_one_stack() -> None:
    found = first_sound.run(["en_US-random-low", "en-us"], str(random_voices()), 1)
    assert [(each.model, each.requests) for each in found.voices] == [("piper", 20), ("speech", 20)]
    for each in found.voices:
        assert 0 < each.first_p50_ms <= each.first_p90_ms <= each.first_max_ms
        assert each.pace > 0
