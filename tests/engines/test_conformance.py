"""Every shipped engine passes the conformance tests."""

import tomllib
from pathlib import Path
from typing import ClassVar

import pytest

from gpuworker import registry
from gpuworker.conformance.for_pytest import EngineConformance
from gpuworker.engine import Engine, EngineJob
from tests.engines.texts import STORY
from tests.support import assets, kokoro_model, piper_voice

ROOT = Path(__file__).parents[2]


class TestTone(EngineConformance):
    name = "tone"
    first = EngineJob(id="first", input="a", params={"seconds": 3.3, "block_ms": 70})
    second = EngineJob(id="second", input="b", params={"seconds": 1.01, "block_ms": 70})
    batchable: ClassVar = {"max_batch": 4}


class TestToneWithGrowingCheckpoints(EngineConformance):
    name = "tone"
    first = EngineJob(id="first", input="a", params={"seconds": 2.05, "block_ms": 10, "checkpoint_bytes": 16})
    second = EngineJob(id="second", input="b", params={"seconds": 0.5, "block_ms": 10, "checkpoint_bytes": 100})
    batchable: ClassVar = {"max_batch": 4}

    @classmethod
    def make(cls) -> Engine:
        return registry.make("tone", {"allow_faults": True})


class TestSpeech(EngineConformance):
    name = "speech"
    first = EngineJob(id="first", input=STORY * 8, seed=11)
    second = EngineJob(id="second", input="Kurz gesagt: es klingt.", voice="de+f3", params={"speed": 1.5})


class TestMusic(EngineConformance):
    name = "music"
    first = EngineJob(id="first", input="a calm piano in the evening", params={"seconds": 4}, seed=11)
    second = EngineJob(id="second", input="happy dance with drums", params={"seconds": 2}, seed=12)


class TestPiper(EngineConformance):
    """With random weights in the architecture of the published voices: nothing is downloaded."""

    name = "piper"
    first = EngineJob(id="first", input=STORY * 3, voice="en_US-random-low", seed=11)
    second = EngineJob(id="second", input="Kurz gesagt: es klingt.", voice="de_DE-random-low", params={"speed": 1.5})

    @classmethod
    def make(cls) -> Engine:
        return registry.make("piper", {"voices": str(piper_voice.random_voices())})


class TestKokoro(EngineConformance):
    """With random weights behind the inputs and outputs of the published model: nothing is downloaded."""

    name = "kokoro"
    second = EngineJob(id="second", input="Dicho en breve: suena.", voice="ef_random", params={"speed": 1.5})

    @classmethod
    def make(cls) -> Engine:
        return registry.make("kokoro", {"model": str(kokoro_model.random_model())})


@pytest.mark.slow
class TestKokoroWithThePublishedModel(EngineConformance):
    """A second of its audio takes most of a second: the jobs are short."""

    name = "kokoro"
    first = EngineJob(id="first", input="It sounds. So it does.", voice="jm_kumo")
    second = EngineJob(id="second", input="In short, yes.", params={"speed": 1.5})

    @classmethod
    def make(cls) -> Engine:
        return registry.make("kokoro", assets.kokoro())


@pytest.mark.slow
class TestPiperWithAPublishedVoice(EngineConformance):
    name = "piper"
    first = EngineJob(id="first", input=STORY, seed=11)
    second = EngineJob(id="second", input="In short: it sounds.", params={"speed": 1.5})

    @classmethod
    def make(cls) -> Engine:
        return registry.make("piper", {"voices": str(assets.piper_joe().parent)})


def test_every_shipped_engine_is_tested_here() -> None:
    """But `upstream`, which needs a server: `test_upstream.py` has its own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    shipped = project["entry-points"]["antiphon.engines"]
    tested = {each.name for each in (TestTone, TestSpeech, TestMusic, TestPiper, TestKokoro)}
    assert tested == set(shipped) - {"upstream"}
