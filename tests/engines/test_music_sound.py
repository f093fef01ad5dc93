import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

from gpuworker.engine import Block, EngineJob, MemoryPolicy
from gpuworker.engines.music.engine import Music
from tests.support import loudness

#: Seconds each: they run with the slow ones, in CI too.
pytestmark = pytest.mark.slow

RATE_HZ = 48_000
BLOCK = 24_000
PROMPTS = (
    "happy summer pop",
    "sad piano in D minor",
    "epic battle with choir",
    "techno 140 bpm",
    "calm ambient, no drums",
    "jazz trio, swing",
    "Walzer für Streicher",
    "lofi hip hop to study",
)


@pytest.fixture(scope="module")
def music() -> Iterator[Music]:
    engine = Music()
    engine.load("cpu", MemoryPolicy())
    yield engine
    engine.unload()


def play(music: Music, prompt: str, *, seconds: float = 20.0, seed: int = 1, **params: float | str) -> loudness.Audio:
    job = music.validate(EngineJob(id="m1", input=prompt, seed=seed, params={"seconds": seconds, **params}))
    return np.concatenate([event.pcm for _, event in music.generate([job]) if isinstance(event, Block)])


@pytest.fixture(scope="module", params=PROMPTS)
def piece(request: pytest.FixtureRequest, music: Music) -> loudness.Audio:
    return play(music, request.param)


def test_it_is_as_loud_as_records_are_and_never_clips(piece: loudness.Audio) -> None:
    assert -19.0 <= loudness.integrated_lufs(piece, RATE_HZ) <= -13.0
    assert loudness.peak_dbfs(piece) <= -0.5
    assert loudness.clip_runs(piece) == 0
    assert loudness.dc_offset(piece) < 0.002


def test_it_begins_at_once_never_falls_silent_and_ends_in_silence(piece: loudness.Audio) -> None:
    assert loudness.longest_silence_s(piece[: -RATE_HZ // 2], RATE_HZ) <= 0.3
    assert loudness.peak_dbfs(piece[: RATE_HZ // 4]) > -40
    assert loudness.peak_dbfs(piece[-RATE_HZ // 20 :]) < -50
    assert loudness.peak_dbfs(piece[-RATE_HZ * 3 : -RATE_HZ * 2]) > -30


def test_blocks_join_without_a_click(piece: loudness.Audio) -> None:
    assert max(loudness.click_ratio(piece, frame) for frame in range(BLOCK, len(piece), BLOCK)) < 1.5


def test_it_fills_the_stereo_image_without_losing_its_middle(piece: loudness.Audio) -> None:
    correlation = float(np.corrcoef(piece[:, 0], piece[:, 1])[0, 1])
    assert 0.2 < correlation < 0.99
    left, right = np.sqrt(np.mean(piece.astype(np.float64) ** 2, axis=0))
    assert 0.6 < left / right < 1.7


@pytest.mark.parametrize("seconds", [1.0, 1.6, 2.2, 3.0, 4.0])
@pytest.mark.parametrize("prompt", ["happy pop", "sad ballad"])
def test_a_few_seconds_begin_and_end_gracefully(music: Music, prompt: str, seconds: float) -> None:
    pcm = play(music, prompt, seconds=seconds)
    assert loudness.peak_dbfs(pcm) > -20
    assert loudness.peak_dbfs(pcm[:2]) < -40
    assert loudness.peak_dbfs(pcm[-480:]) < -50
    assert loudness.longest_silence_s(pcm, RATE_HZ) <= 0.2


@pytest.mark.parametrize(
    ("prompt", "params", "scale"),
    [
        ("calm piano in D minor", {}, {2, 4, 5, 7, 9, 10, 0, 1}),
        ("classical strings", {"key": "F# major"}, {6, 8, 10, 11, 1, 3, 5}),
    ],
)
def test_the_notes_are_in_the_key_of_the_prompt(
    music: Music, prompt: str, params: dict[str, str], scale: set[int]
) -> None:
    shares = loudness.pitch_classes(play(music, f"{prompt}, no drums", seconds=14, **params), RATE_HZ)  # type: ignore[arg-type]
    assert sum(shares[pitch] for pitch in scale) > 0.93
    tonic = min(scale, key=lambda pitch: -shares[pitch] if pitch in {2, 6} else 0)
    assert shares[tonic] > 1 / 12


def test_the_last_chord_is_the_tonic(music: Music) -> None:
    shares = loudness.pitch_classes(
        play(music, "folk guitar in G major, no drums", seconds=14)[-3 * RATE_HZ :], RATE_HZ
    )
    assert sum(shares[pitch] for pitch in (7, 11, 2)) > 0.85
    assert int(np.argmax(shares)) in {7, 11, 2}


def test_the_drums_beat_at_the_tempo_of_the_prompt(music: Music) -> None:
    assert loudness.pulse_bpm(play(music, "techno house, 131 bpm", seconds=14), RATE_HZ, 95, 185) == pytest.approx(
        131, rel=0.01
    )
    assert loudness.pulse_bpm(play(music, "techno house", seconds=14, bpm=112), RATE_HZ, 80, 160) == pytest.approx(
        112, rel=0.01
    )


def test_the_kick_pushes_the_others_down_where_the_style_pumps(music: Music, monkeypatch: pytest.MonkeyPatch) -> None:
    from gpuworker.engines.music import styles

    def held_energy(pcm: loudness.Audio) -> float:
        """Energy of the pad's range shortly after the beats, over that shortly before them."""
        beat, start = round(60 / 110 * RATE_HZ), 16 * round(60 / 110 * RATE_HZ)
        spectrum = np.fft.rfft(pcm.sum(axis=1, dtype=np.float64))
        hz = np.fft.rfftfreq(len(pcm), 1 / RATE_HZ)
        spectrum[(hz < 300) | (hz > 900)] = 0
        power = np.fft.irfft(spectrum, len(pcm))[start : start + 8 * beat].reshape(-1, beat) ** 2
        return float(power[:, beat // 12 : beat // 6].mean() / power[:, -beat // 6 :].mean())

    pumped = held_energy(play(music, "techno", seconds=16, bpm=110))
    still = dataclasses.replace(styles.STYLES["house"], pump=0.0)
    monkeypatch.setitem(styles.STYLES, "house", still)
    assert pumped < 0.7 * held_energy(play(music, "techno", seconds=16, bpm=110))
