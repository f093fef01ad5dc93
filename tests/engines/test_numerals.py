"""Numbers of every language of espeak-ng: none is silent, and no two of them sound alike."""

import random
import re
from collections.abc import Iterator

import pytest

from gpuworker.engines.speech import espeak
from gpuworker.engines.speech.espeak_voices import read_voices
from gpuworker.engines.speech.speaker import Speaker
from gpuworker.engines.text.parts import Part
from gpuworker.engines.text.spelling import spell

FILES = espeak.find_espeak()
assert FILES is not None
VOICES = read_voices(FILES.data)
IDS = [voice.id for voice in VOICES.listed()]
#: Of `12`, `1 2`, `one two` only the sounds count.
NOT_SOUND = re.compile(r"[\s_ˈˌ̩]|\([a-z-]*\)")


@pytest.fixture(scope="module")
def phonemes() -> Iterator[Speaker]:
    assert FILES is not None
    speaker = Speaker("gpuworker.engines.speech.phoneme_process", [str(FILES.library), str(FILES.data)])
    yield speaker
    speaker.stop()


def spelled(text: str, language: str) -> str:
    return spell(Part(text, range(len(text)), 0), language).text


def said(phonemes: Speaker, voice: str, texts: list[str]) -> dict[str, str]:
    """The sounds of each text, a paragraph of its own."""
    language = VOICES.language(voice)
    report: dict[str, list[list[str]]] = {}
    paragraphs = "\n\n".join(spelled(text, language) for text in texts)
    for _ in phonemes.speak({"text": paragraphs, "voice": VOICES.native(voice), "tokens": []}, report.update):
        continue
    sounds = [NOT_SOUND.sub("", ipa) for ipa, _ in report["clauses"]]
    assert len(sounds) == len(texts)
    return dict(zip(texts, sounds, strict=True))


def numbers() -> list[str]:
    """All below 1,000, and for each length up to 15 digits the round ones, those with one more digit, and random ones."""
    rng = random.Random(5)
    found = set(range(1000))
    for length in range(4, 16):
        unit = 10 ** (length - 1)
        found |= {first * unit for first in range(1, 10)}
        found |= {first * unit + 10**place for first in (1, 2, 5) for place in range(length - 1)}
        found |= {rng.randrange(unit, 10 * unit) for _ in range(20)}
    return [str(number) for number in sorted(found)]


@pytest.mark.slow
@pytest.mark.parametrize("voice", IDS)
def test_no_number_is_silent_and_no_two_sound_alike(phonemes: Speaker, voice: str) -> None:
    sounds = said(phonemes, voice, numbers())
    assert [number for number, sound in sounds.items() if not sound] == []
    alike: dict[str, list[str]] = {}
    for number, sound in sounds.items():
        alike.setdefault(sound, []).append(number)
    assert [each for each in alike.values() if len(each) > 1] == []
