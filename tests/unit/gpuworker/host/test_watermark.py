"""The watermark of a job: in its audio before it is sent, the same on whichever worker, and of no other job."""

import wave
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bus.settings import SettingsError
from gpuworker import pipe, watermark
from gpuworker.engine import EngineJob
from gpuworker.engines.tone import Tone
from gpuworker.host.group import Group, Member
from gpuworker.watermark import Watermark
from tests.support.tone import tone_pcm
from tests.support.watermark import Noise, noise

SECONDS = 0.5
FRAMES = round(24_000 * SECONDS)


class Received:
    """The messages of each job of a group."""

    def __init__(self) -> None:
        self.pcm = {1: b"", 2: b""}
        self.control: dict[int, list[pipe.ControlMessage]] = {1: [], 2: []}
        self._reader = pipe.MessageReader({handle: _Job(self, handle) for handle in (1, 2)}, lambda _: None)

    def send(self, message: bytes, urgent: bool) -> None:
        self._reader.feed(message)


class _Job:
    def __init__(self, received: Received, handle: int) -> None:
        self._received = received
        self._handle = handle

    def on_audio(self, first_frame: int, pcm: bytes, marks: pipe.Marks) -> None:
        self._received.pcm[self._handle] += pcm

    def on_control(self, message: pipe.ControlMessage) -> None:
        self._received.control[self._handle].append(message)


def run(*watermarks: Watermark | None, start_frame: int = 0) -> Received:
    """Tones of one group, one job for each of `watermarks`."""
    received = Received()
    params = {"seconds": SECONDS}
    valid = Tone().validate(EngineJob(id="a-job", input="x", params=params, start_frame=start_frame))
    members = [Member(handle, valid, 0.0, each) for handle, each in enumerate(watermarks, start=1)]
    group = Group(Tone(), members, received.send)
    while not group.is_over:
        group.step(0.0)
    return received


def marked_tone(first_frame: int = 0) -> bytes:
    plain = np.frombuffer(tone_pcm(SECONDS), "<i2")[first_frame:].astype(np.int64)
    return bytes((plain + noise("a-job", first_frame, len(plain))).clip(-32768, 32767).astype("<i2").tobytes())


def test_a_job_has_its_watermark_and_the_job_beside_it_none() -> None:
    received = run(Noise(), None)
    assert received.pcm == {1: marked_tone(), 2: tone_pcm(SECONDS)}
    assert marked_tone() != tone_pcm(SECONDS)


@pytest.mark.parametrize("start_frame", [1, 777, FRAMES - 1])
def test_an_attempt_that_takes_over_continues_the_watermark(start_frame: int) -> None:
    assert run(Noise(), start_frame=start_frame).pcm[1] == marked_tone(start_frame)


class Broken(Noise):
    """Raises, or returns what it was not given."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def mark(self, pcm: NDArray[np.float32], *, rate_hz: int, job: str, first_frame: int) -> NDArray[np.float32]:
        if isinstance(self._answer, Exception):
            raise self._answer
        return np.full((len(pcm) + self._answer, 1), np.nan, np.float32)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (RuntimeError("no room"), "the watermark failed: RuntimeError: no room"),
        (1, "the watermark made ("),
        (0, "samples are not finite"),
    ],
)
def test_a_watermark_that_fails_ends_its_job_and_not_the_one_beside_it(answer: Any, says: str) -> None:
    received = run(Broken(answer), None)
    failed = received.control[1][-1]
    assert isinstance(failed, pipe.Failed)
    assert (failed.code, says in failed.message) == ("engine_failed", True)
    assert received.pcm == {1: b"", 2: tone_pcm(SECONDS)}


def install(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    points = [EntryPoint(name, "tests.support.watermark:Noise", watermark.GROUP) for name in names]
    monkeypatch.setattr(watermark, "entry_points", lambda *, group: points)


def test_one_watermark_may_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (watermark.installed(), watermark.load()) == ("", None)
    install(monkeypatch, "noise")
    assert watermark.installed() == "noise"
    assert isinstance(watermark.load(), Noise)
    install(monkeypatch, "noise", "other")
    with pytest.raises(SettingsError, match="several watermarks are installed, noise, other"):
        watermark.installed()


def test_a_file_is_searched_for_the_watermark_that_is_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 24_000, 0, "NONE", ""))
        file.writeframes(tone_pcm(0.1))
    assert watermark.detect(path) is None
    install(monkeypatch, "noise")
    assert watermark.detect(path) == 0.75
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 1, 24_000, 0, "NONE", ""))
        file.writeframes(b"abcd")
    with pytest.raises(wave.Error, match="8 bits, not 16"):
        watermark.detect(path)
