"""What the README promises a new user: `curl`, `say` and `compose` against the stack that `up` started."""

import json
import re
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.asr import recognised
from tests.support.doors import wav_pcm
from tests.support.loudness import integrated_lufs, longest_silence_s, peak_dbfs
from tests.support.up import ROOT, Up, running

SENTENCES = [
    "go forward ten meters",
    "the quick brown fox jumps over the lazy dog",
    "please turn on the light in the kitchen",
    "we are ready to publish the next block of audio",
    "one two three four five six seven eight nine ten",
    "the weather is nice today",
    "open the door and close the window",
    "music and speech are streamed to the client",
]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running(tmp_path_factory.mktemp("up") / "state", "--models", "speech,music,tone") as up:
        yield up
        up.stop()


def antiphon(up: Up, *argv: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "ops.cli.main", *argv, "--url", up.http]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)


def read(path: Path) -> tuple[NDArray[np.int16], int]:
    """(frames, channels) and the rate; tells nothing by the sizes in the header, which a stream cannot know."""
    with wave.open(str(path)) as file:
        rate_hz, channels = file.getframerate(), file.getnchannels()
    return np.frombuffer(wav_pcm(path.read_bytes()), "<i2").reshape(-1, channels), rate_hz


def test_curl_as_the_readme_shows_it_saves_the_sentence_asked_for(up: Up, tmp_path: Path) -> None:
    target = tmp_path / "hello.wav"
    body = json.dumps({"model": "speech", "input": SENTENCES[1], "response_format": "wav", "stream": False})
    command = ["curl", "-sSf", f"{up.http}/v1/audio/speech", "-H", "Content-Type: application/json"]
    subprocess.run([*command, "-d", body, "-o", str(target)], check=True, timeout=60)
    frames, rate_hz = read(target)
    with wave.open(str(target)) as file:
        assert file.getnframes() == len(frames)
    assert recognised(frames.tobytes(), rate_hz, SENTENCES) == SENTENCES[1]


def test_say_saves_the_sentence_it_is_given(up: Up, tmp_path: Path) -> None:
    target = tmp_path / "said.wav"
    done = antiphon(up, "say", SENTENCES[5], "-o", str(target))
    assert done.returncode == 0, done.stderr
    frames, rate_hz = read(target)
    assert recognised(frames.tobytes(), rate_hz, SENTENCES) == SENTENCES[5]


def test_say_writes_a_file_of_the_kind_that_its_name_ends_in(up: Up, tmp_path: Path) -> None:
    wav, pcm = tmp_path / "hello.wav", tmp_path / "hello.pcm"
    for file in (wav, pcm):
        run = antiphon(up, "say", "Hello from Antiphon.", "-o", str(file))
        assert (run.returncode, run.stdout) == (0, "")
        assert re.fullmatch(r"([\d.]+ s of audio|[\d,]+ bytes), job [0-9a-f-]+\n", run.stderr)
    frames, rate_hz = read(wav)
    assert 0.8 < len(frames) / rate_hz < 4.0
    assert pcm.stat().st_size > 16_000


def test_compose_saves_music_with_sane_loudness_peak_and_silence(up: Up, tmp_path: Path) -> None:
    target = tmp_path / "evening.wav"
    done = antiphon(up, "compose", "a calm evening, piano", "--seconds", "12", "-o", str(target))
    assert done.returncode == 0, done.stderr
    frames, rate_hz = read(target)
    assert (rate_hz, frames.shape) == (48_000, (12 * 48_000, 2))
    pcm = frames.astype(np.float32) / 32768
    assert -22 < integrated_lufs(pcm, rate_hz) < -10
    assert peak_dbfs(pcm) <= -0.3
    assert longest_silence_s(pcm, rate_hz) < 1.5


def test_an_error_of_the_door_is_one_clear_line(up: Up, tmp_path: Path) -> None:
    done = antiphon(up, "say", "hello", "--voice", "nobody", "-o", str(tmp_path / "x.wav"))
    assert done.returncode == 1
    assert "voice" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "x.wav").exists()


def test_the_readmes_curl_line_is_the_one_that_is_tested() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "curl http://127.0.0.1:8080/v1/audio/speech -H 'Content-Type: application/json'" in readme
    assert '"model":"speech"' in readme
    assert '"response_format":"wav"' in readme
