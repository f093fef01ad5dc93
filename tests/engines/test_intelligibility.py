"""A speech recogniser of another project finds the sentence of the job among decoys."""

import numpy as np
import pytest

from gpuworker.conformance.driving import run
from gpuworker.engine import EngineJob
from gpuworker.engines.speech import flite
from gpuworker.engines.speech.engine import RATE_HZ, Speech
from tests.engines.texts import SENTENCES
from tests.support.asr import recognised

pytestmark = pytest.mark.slow

VOICES = ["en-us", "en-gb", *(["flite-slt", "flite-kal16"] if flite.find_flite() else [])]


def s16(pcm: np.ndarray) -> bytes:
    return np.rint(pcm * 32768).clip(-32768, 32767).astype("<i2").tobytes()


def spoken(speech: Speech, text: str, voice: str) -> bytes:
    return s16(run(speech, EngineJob(id="j", input=text, voice=voice)).pcm)


@pytest.mark.parametrize("voice", VOICES)
def test_each_sentence_is_recognised(speech: Speech, voice: str) -> None:
    answers = {text: recognised(spoken(speech, text, voice), RATE_HZ, SENTENCES) for text in SENTENCES}
    assert answers == {text: text for text in SENTENCES}


def test_a_sentence_that_was_not_spoken_is_not_recognised(speech: Speech) -> None:
    noise = np.random.default_rng(3).standard_normal(2 * RATE_HZ) * 0.1
    backwards = spoken(speech, SENTENCES[1], "en-us")
    flipped = np.frombuffer(backwards, "<i2")[::-1].tobytes()
    for recording in (bytes(2 * 2 * RATE_HZ), s16(noise), flipped, spoken(speech, "Ganz etwas anderes.", "de")):
        assert recognised(recording, RATE_HZ, SENTENCES) is None


def test_a_sentence_outside_the_recognisers_dictionary_is_an_error() -> None:
    with pytest.raises(ValueError, match="antiphonically"):
        recognised(bytes(32_000), 16_000, ("antiphonically speaking",))
