"""The engine that is tested, and the jobs that it is tested with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

from gpuworker.conformance.driving import Output, run
from gpuworker.engine import Engine, EngineJob, MemoryPolicy

#: Inputs for an engine whose author gives none.
FIRST_INPUT: Final = (
    "A calm piano in the evening. The keeper counted the ships each night, and wrote their names into a book. "
    "Once a year a man came from the town, read the book, and went away without a word."
)
SECOND_INPUT: Final = "In short: a happy dance with drums."


@dataclass(frozen=True)
class Jobs:
    """Two different jobs; the first makes at least three blocks and half a second of audio."""

    first: EngineJob = field(default_factory=lambda: EngineJob(id="first", input=FIRST_INPUT, seed=11))
    second: EngineJob = field(default_factory=lambda: EngineJob(id="second", input=SECOND_INPUT, seed=12))
    #: The params that let a job share a forward, for an engine that batches.
    batchable: Mapping[str, Any] = field(default_factory=dict)

    def batched(self) -> tuple[EngineJob, EngineJob]:
        """Both jobs with the params of `batchable`."""
        first, second = (replace(job, params={**job.params, **self.batchable}) for job in (self.first, self.second))
        return first, second


class Subject:
    """An engine under test. Owns a loaded instance from its first use to `close`."""

    def __init__(self, name: str, make: Callable[[], Engine], jobs: Jobs, device: str = "cpu") -> None:
        """`make`: a new instance, not loaded. `device`: as `load` takes it."""
        self.name = name
        self.make = make
        self.jobs = jobs
        self.device = device

    def load(self) -> Engine:
        """A further instance, loaded; the caller unloads it."""
        engine = self.make()
        self.load_again(engine)
        return engine

    def load_again(self, engine: Engine) -> None:
        """Load an instance that `make` or `load` has made."""
        engine.load(self.device, MemoryPolicy())

    @cached_property
    def engine(self) -> Engine:
        """The loaded instance that the checks share."""
        return self.load()

    @cached_property
    def whole(self) -> Output:
        """The first job, uninterrupted."""
        return run(self.engine, self.jobs.first)

    @property
    def has_whole(self) -> bool:
        """Whether the first job has been made."""
        return "whole" in self.__dict__

    def close(self) -> None:
        """Unload the shared instance, if there is one."""
        if "engine" in self.__dict__:
            self.engine.unload()
