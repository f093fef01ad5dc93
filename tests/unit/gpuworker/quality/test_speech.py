"""The detector of speech on sounds that are none; on voices it is tried with the engines."""

import numpy as np
import pytest

from bus.quality import SPEECH, Flag
from gpuworker.quality.meter import Meter, Subject
from gpuworker.quality.speech import SpeechShare
from tests.support.sounds import Mono, s16le, sine

RATE_HZ = 22_050
NOISE = np.random.default_rng(1).standard_normal(2 * RATE_HZ) * 0.1


def share(signal: Mono) -> tuple[float | None, list[Flag]]:
    meter = Meter(Subject(rate_hz=RATE_HZ, channels=1, limits=SPEECH), SpeechShare(RATE_HZ))
    meter.add(s16le(signal))
    quality = meter.finish()
    return quality.speech_share, quality.flags


@pytest.mark.parametrize("signal", [NOISE, sine(440, 2.0, RATE_HZ, 0.3)], ids=["noise", "tone"])
def test_noise_and_a_tone_are_no_speech(signal: Mono) -> None:
    found, flags = share(signal)
    assert found is not None
    assert found < 0.1
    assert Flag.NOT_SPEECH in flags


@pytest.mark.parametrize("signal", [NOISE[: RATE_HZ // 2], 0.01 * NOISE], ids=["short", "quiet"])
def test_without_a_loud_second_nothing_is_said(signal: Mono) -> None:
    found, flags = share(signal)
    assert found is None
    assert Flag.NOT_SPEECH not in flags
