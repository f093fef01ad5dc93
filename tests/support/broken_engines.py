"""Engines that break a rule of the protocol each, and one that breaks none."""

from collections.abc import Generator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, ClassVar

import numpy as np

from gpuworker.conformance.subject import Jobs
from gpuworker.engine import (
    Block,
    Capabilities,
    Checkpoint,
    Done,
    EngineJob,
    Estimate,
    Event,
    Mark,
    MemoryPolicy,
    Rejected,
    Voice,
)
from gpuworker.engines.tone import Tone

Events = Generator[tuple[int, Event], None, None]
PARAMS = {"seconds": 2.6, "block_ms": 100}
JOBS = Jobs(
    EngineJob(id="first", input="one two", params=PARAMS),
    EngineJob(id="second", input="three", params={**PARAMS, "seconds": 0.3}),
    {"max_batch": 4},
)


class Sound(Tone):
    """Tone with a mark for its first word; `changed` are fields of its capabilities."""

    changed: ClassVar[dict[str, Any]] = {}

    def capabilities(self) -> Capabilities:
        return replace(super().capabilities(), **self.changed)

    def generate(self, jobs: Sequence[EngineJob]) -> Events:
        for index, event in super().generate(jobs):
            is_first = isinstance(event, Block) and event.first_frame == 0
            yield index, Block(0, event.pcm, (Mark(0, "word", 0, 3),)) if is_first else event  # type: ignore[union-attr]


def described(**changed: Any) -> type[Sound]:
    return type("Described", (Sound,), {"changed": changed})


def events(change: Any) -> type[Sound]:
    """An engine whose events go through `change(job, event)`, which gives those that come instead."""

    class Changed(Sound):
        def generate(self, jobs: Sequence[EngineJob]) -> Events:
            for index, event in super().generate(jobs):
                yield from ((index, each) for each in change(jobs[index], event))

    return Changed


def pcm(change: Any) -> type[Sound]:
    """An engine whose samples go through `change(job, pcm)`."""

    def changed(job: EngineJob, event: Event) -> list[Event]:
        return [replace(event, pcm=change(job, event.pcm))] if isinstance(event, Block) else [event]

    return events(changed)


def marked(*marks: Mark) -> type[Sound]:
    def changed(job: EngineJob, event: Event) -> list[Event]:
        is_first = isinstance(event, Block) and event.first_frame == 0
        return [replace(event, marks=marks) if is_first else event]  # type: ignore[type-var]

    return events(changed)


NUMBERS = count(1)


class Forgetful(Sound):
    """Each instance sounds in another way."""

    def __init__(self) -> None:
        super().__init__()
        self._share = np.float32(1 / next(NUMBERS))

    def generate(self, jobs: Sequence[EngineJob]) -> Events:
        for index, event in super().generate(jobs):
            yield index, replace(event, pcm=event.pcm * self._share) if isinstance(event, Block) else event


class Moody(Sound):
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities(), version=f"v{next(NUMBERS)}")


class Trusting(Sound):
    """Takes every voice and has one."""

    changed: ClassVar = {"voices": (Voice("anna", "Anna", "en"),), "default_voice": "anna"}


class Guessing(Sound):
    def estimate(self, job: EngineJob, batch: int = 1) -> Estimate:
        return replace(super().estimate(job, batch), seconds=5.0)


class Wavering(Sound):
    def validate(self, job: EngineJob) -> EngineJob:
        return replace(super().validate(job), seed=job.seed + 1)


class Choosy(Sound):
    def validate(self, job: EngineJob) -> EngineJob:
        if len(job.input) > 100:
            raise Rejected("input", "is long")
        return super().validate(job)


class OnceOnly(Sound):
    def unload(self) -> None:
        if getattr(self, "is_gone", False):
            raise RuntimeError("unloaded twice")
        self.is_gone = True

    def load(self, device: str, policy: MemoryPolicy) -> None:
        super().load(device, policy)
        self.is_gone = False


class Keyless(Sound):
    changed: ClassVar = {"max_batch": 1}


class Crowded(Sound):
    """Sounds softer while more jobs run."""

    num_jobs = 0

    def generate(self, jobs: Sequence[EngineJob]) -> Events:
        self.num_jobs += len(jobs)
        for index, event in super().generate(jobs):
            yield index, replace(event, pcm=event.pcm / self.num_jobs) if isinstance(event, Block) else event
        self.num_jobs -= len(jobs)


class Stubborn(Sound):
    """Does not look at `cancel`."""

    def generate(self, jobs: Sequence[EngineJob]) -> Events:
        yield from super().generate([replace(job, cancel=type(job.cancel)()) for job in jobs])


class Endless(Sound):
    """Goes on when it is closed."""

    def generate(self, jobs: Sequence[EngineJob]) -> Any:
        return _Unclosed(super().generate(jobs))


class _Unclosed:
    def __init__(self, inner: Events) -> None:
        self._inner = inner

    def __iter__(self) -> "_Unclosed":
        return self

    def __next__(self) -> tuple[int, Event]:
        return next(self._inner)

    def close(self) -> None:
        """Nothing."""


class OneBlock(Sound):
    def generate(self, jobs: Sequence[EngineJob]) -> Events:
        for index, job in enumerate(jobs):
            made = [event.pcm for _, event in Sound.generate(Sound(), [job]) if isinstance(event, Block)]
            yield index, Block(0, np.concatenate(made))
            yield index, Done()


def early(job: EngineJob, event: Event) -> list[Event]:
    """Ignores where a job is to be resumed: says that the audio behind is the beginning."""
    return [replace(event, first_frame=event.first_frame - job.start_frame)] if isinstance(event, Block) else [event]


def forgetting(job: EngineJob, event: Event) -> list[Event]:
    """Makes growing checkpoints, and is another engine once it gets them back."""
    if not isinstance(event, Block):
        return [event]
    made = replace(event, pcm=event.pcm / 2) if job.increments else event
    return [made, Checkpoint(event.first_frame + len(event.pcm), b"x", grows=True)]
