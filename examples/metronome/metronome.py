"""An engine of Antiphon: it clicks once for each word."""

from collections.abc import Generator, Hashable, Sequence
from typing import Annotated

import numpy as np
from msgspec import Meta

from gpuworker.engine import (
    Block,
    Capabilities,
    Determinism,
    Done,
    EngineJob,
    EngineOptions,
    Estimate,
    Event,
    Mark,
    MemoryPolicy,
    Requirement,
    Resume,
)

RATE_HZ = 48_000


class MetronomeOptions(EngineOptions, frozen=True, kw_only=True):
    """Options of `[engines.metronome]`."""

    #: Pitch of the click.
    click_hz: Annotated[float, Meta(ge=20, le=20_000)] = 600.0


class Metronome:
    """Clicks once for each word of the input."""

    Options = MetronomeOptions

    def __init__(self, options: MetronomeOptions) -> None:
        self._options = options
        self._click = np.zeros(0)

    def capabilities(self) -> Capabilities:
        return Capabilities(
            name="metronome",
            kind="music",
            rate_hz=RATE_HZ,
            channels=1,
            resume=Resume.RANDOM_ACCESS,
            determinism=Determinism.BITWISE,
            param_schema={
                "type": "object",
                "additionalProperties": False,
                "properties": {"bpm": {"type": "integer", "minimum": 60, "maximum": 300, "default": 120}},
            },
            max_input_chars=10_000,
            requires=(Requirement("metronome", module="numpy"),),
        )

    def validate(self, job: EngineJob) -> EngineJob:
        return job

    def estimate(self, job: EngineJob, batch: int = 1) -> Estimate:
        seconds = len(job.input.split()) * (RATE_HZ * 60 // job.params["bpm"]) / RATE_HZ
        return Estimate(device_bytes=0, seconds=seconds, cost_s=0.0001 * seconds)

    def batch_key(self, job: EngineJob) -> Hashable | None:
        return None

    def load(self, device: str, policy: MemoryPolicy) -> None:
        angle = np.arange(2_400) * (2 * np.pi * self._options.click_hz / RATE_HZ)
        self._click = np.sin(angle) * np.linspace(0.8, 0, 2_400)

    def warm_up(self) -> None:
        pass

    def generate(self, jobs: Sequence[EngineJob]) -> Generator[tuple[int, Event], None, None]:
        for index, job in enumerate(jobs):
            beat_frames = RATE_HZ * 60 // job.params["bpm"]
            start = 0
            for beat, word in enumerate(job.input.split()):
                start = job.input.index(word, start)
                first_frame = beat * beat_frames
                if first_frame + beat_frames > job.start_frame:
                    pcm = np.zeros((beat_frames, 1), np.float32)
                    pcm[: len(self._click), 0] = self._click
                    yield index, Block(first_frame, pcm, (Mark(first_frame, "word", start, len(word)),))
                start += len(word)
            yield index, Done()

    def unload(self) -> None:
        self._click = np.zeros(0)
