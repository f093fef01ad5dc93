"""flite's voices where the system has them, and the resampler that brings them to the engine's rate."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuworker.conformance.driving import resumed, run
from gpuworker.engine import EngineJob, MemoryPolicy, Rejected
from gpuworker.engines.speech import espeak, flite
from gpuworker.engines.speech.engine import Speech
from gpuworker.engines.speech.resampler import Resampler
from tests.engines.texts import STORY

pytestmark = pytest.mark.slow

installed = pytest.mark.skipif(flite.find_flite() is None, reason="libflite is not installed (Debian: libflite1)")


def resampled(pcm: bytes, sizes: Sequence[int]) -> np.ndarray:
    resampler, made, at = Resampler(), [], 0
    for size in (*sizes, len(pcm)):
        made.append(resampler.push(pcm[2 * at : 2 * (at + size)]))
        at += size
    return np.concatenate([*made, resampler.finish()])


def wave(frequency_hz: float, rate_hz: int, frames: int) -> np.ndarray:
    return 0.6 * np.sin(2 * np.pi * frequency_hz * np.arange(frames) / rate_hz)


@pytest.mark.parametrize("frequency_hz", [50, 440, 1000, 3000, 6000])
def test_a_tone_keeps_its_pitch_phase_and_loudness(frequency_hz: float) -> None:
    made = resampled((wave(frequency_hz, 16_000, 16_000) * 32768).astype("<i2").tobytes(), [])
    assert len(made) == 22_050
    middle = slice(100, -100)
    assert np.abs(made - wave(frequency_hz, 22_050, 22_050))[middle].max() < 1e-3


@settings(max_examples=30)
@given(sizes=st.lists(st.integers(min_value=0, max_value=400), max_size=12))
def test_it_makes_no_difference_in_which_pieces_audio_comes(sizes: list[int]) -> None:
    pcm = np.random.default_rng(7).integers(-30_000, 30_000, 2_000).astype("<i2").tobytes()
    assert resampled(pcm, sizes).tobytes() == resampled(pcm, []).tobytes()


@pytest.mark.parametrize("frames", [0, 1, 15, 16, 17, 320])
def test_the_shortest_audio_keeps_its_length(frames: int) -> None:
    assert len(resampled(bytes(2 * frames), [])) == frames * 441 // 320


def test_text_is_brought_to_ascii() -> None:
    assert flite.readable("Café — “naïve” 你好…") == 'Cafe ,  "naive" ... '
    assert flite.readable("one\u2028two\x85-5 \u22127, 3-4") == "one two minus 5 minus 7, 3-4"


def test_libraries_without_a_voice_are_not_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flite, "_FOLDERS", (str(tmp_path),))
    for name in ("libflite", "libflite_cmulex", "libflite_usenglish"):
        (tmp_path / f"{name}.so.1").touch()
    assert flite.find_flite() is None
    (tmp_path / "libflite_cmu_us_slt.so.1").touch()
    found = flite.find_flite()
    assert found is not None
    assert [voice.id for voice in found.voices] == ["flite-slt"]


@installed
@pytest.mark.parametrize("voice", ["flite-slt", "flite-kal16", "flite-rms", "flite-awb"])
def test_a_flite_voice_sounds_the_same_every_time_and_resumes(speech: Speech, voice: str) -> None:
    job = EngineJob(id="j", input=STORY, voice=voice)
    whole = run(speech, job)
    run(speech, EngineJob(id="k", input="Something else.", voice=voice))
    assert run(speech, job).pcm.tobytes() == whole.pcm.tobytes()
    frame = whole.end_frame // 2
    assert resumed(speech, job, frame, whole).from_frame(frame).tobytes() == whole.pcm[frame:].tobytes()
    assert len(whole.pcm) > 5 * 22_050


@installed
def test_speed_pitch_and_volume_change_the_audio(speech: Speech) -> None:
    def said(**params: float) -> np.ndarray:
        return run(speech, EngineJob(id="j", input=STORY, voice="flite-slt", params=params)).pcm

    usual = said()
    assert len(said(speed=2)) * 2 == pytest.approx(len(usual), rel=0.1)
    assert len(said(speed=0.5)) / 2 == pytest.approx(len(usual), rel=0.1)
    assert np.allclose(said(volume=50), usual / 2)
    assert said(pitch=80).tobytes() != usual.tobytes()
    assert np.abs(said(volume=200)).max() <= 1


@installed
@pytest.mark.parametrize(
    ("job", "path"),
    [
        (EngineJob(id="j", input="<speak>a</speak>", voice="flite-slt"), "input"),
        (EngineJob(id="j", input="a", voice="flite-slt", params={"range": 10}), "params.range"),
        (EngineJob(id="j", input="a", voice="flite-nancy"), "voice"),
    ],
)
def test_features_that_flite_lacks_are_refused(speech: Speech, job: EngineJob, path: str) -> None:
    with pytest.raises(Rejected) as refusal:
        speech.validate(job)
    assert refusal.value.path == path


@installed
def test_a_text_that_flite_cannot_read_is_silence(speech: Speech) -> None:
    output = run(speech, EngineJob(id="j", input="你好。", voice="flite-slt"))
    assert len(output.pcm) > 0
    assert not output.pcm.any()


@installed
def test_flite_alone_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "find_espeak", lambda: None)
    speech = Speech()
    assert speech.capabilities().default_voice == "flite-slt"
    assert "GPL" not in speech.capabilities().licence
    speech.load("cpu", MemoryPolicy())
    try:
        assert run(speech, EngineJob(id="j", input="Hello.")).done
    finally:
        speech.unload()
