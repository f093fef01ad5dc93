"""Engines, loaded once per module and unloaded after it."""

from collections.abc import Iterator

import pytest

from gpuworker.engine import MemoryPolicy
from gpuworker.engines.piper.engine import Piper, PiperOptions
from gpuworker.engines.speech import espeak
from gpuworker.engines.speech.engine import Speech
from gpuworker.engines.speech.speaker import Speaker
from tests.support.piper_voice import random_voices


@pytest.fixture(scope="module")
def speech() -> Iterator[Speech]:
    engine = Speech()
    engine.load("cpu", MemoryPolicy())
    yield engine
    engine.unload()


@pytest.fixture(scope="module")
def piper() -> Iterator[Piper]:
    engine = Piper(PiperOptions(voices=str(random_voices())))
    engine.load("cpu", MemoryPolicy())
    yield engine
    engine.unload()


@pytest.fixture
def speaker() -> Iterator[Speaker]:
    """A helper process with espeak-ng."""
    files = espeak.find_espeak()
    assert files is not None
    speaker = espeak.make_speaker(files)
    yield speaker
    speaker.stop()
