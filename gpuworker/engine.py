"""The protocol between a model and the worker.

An engine imports this module, its model's library, and of ours `bus.bound`, `bus.text`, `bus.sentences`, `bus.ssml`,
`bus.voices`, `bus.script` and `bus.process`. The engine host drives every engine from one thread, one call at a time:
an engine needs no locks and may keep state between calls. It never touches asyncio, NATS, settings or the
environment, nor HTTP except `engines/upstream/`, so a notebook can drive it:

    engine.load("cpu", MemoryPolicy())
    job = admit(engine, EngineJob(id="n1", input="Hello"))  # of gpuworker.admission
    for _, event in engine.generate([job]): ...
"""

import re
from collections.abc import Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

from bus.script import Turn
from gpuworker.capabilities import (
    Capabilities,
    Completeness,
    Determinism,
    EngineOptions,
    InstallableVoice,
    ReportsMemory,
    ReportsReadiness,
    Requirement,
    Resume,
    Voice,
)
from gpuworker.events import MAX_CHECKPOINT_BYTES, Block, Checkpoint, Done, Event, Mark, Pause, Pcm, Progress

__all__ = (
    "MAX_CHECKPOINT_BYTES",
    "AttemptFailed",
    "Block",
    "Cancel",
    "Capabilities",
    "Checkpoint",
    "Completeness",
    "Determinism",
    "Done",
    "Engine",
    "EngineJob",
    "EngineOptions",
    "Estimate",
    "Event",
    "InstallableVoice",
    "Mark",
    "MemoryPolicy",
    "OutOfMemory",
    "Pause",
    "Pcm",
    "Progress",
    "Rejected",
    "ReportsMemory",
    "ReportsReadiness",
    "Requirement",
    "Resume",
    "TextLost",
    "Voice",
)

#: Most words that `TextLost` names.
_LISTED_WORDS = 10
_UNSPEAKABLE: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")


class Rejected(Exception):
    """The job is at fault, not the engine: in the field `path` (`input`, `voice`, `params.seconds`).

    `message` names the limit and the value.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.message = message


def check_text(text: str, max_chars: int) -> None:
    """Raise Rejected for an input that no voice can speak: blank, too long, or with a control character.

    White space of every kind is none; half of a surrogate pair is one.
    """
    if not text.strip():
        raise Rejected("input", "is blank")
    if len(text) > max_chars:
        raise Rejected("input", f"has {len(text)} characters, the limit is {max_chars}")
    if bad := _UNSPEAKABLE.search(text):
        raise Rejected("input", f"has the control character U+{ord(bad.group()):04X} at position {bad.start()}")


class TextLost(Exception):
    """Words of the input were not spoken, and cannot be, not even alone. The engine can go on."""

    def __init__(self, text: str, spans: Sequence[tuple[int, int]], who: str, path: str = "input") -> None:
        """`spans`: (start, end) of the words in `text`, the job's field `path`. `who` failed to speak them."""
        listed = ", ".join(f"{text[start:end][:40]!r} at {start}" for start, end in spans[:_LISTED_WORDS])
        more = f" and {len(spans) - _LISTED_WORDS} more" if len(spans) > _LISTED_WORDS else ""
        super().__init__(f"{path}: {who} cannot speak {listed}{more} (positions in characters, from 0)")
        self.spans = tuple(spans)
        self.who = who
        self.path = path


class AttemptFailed(Exception):
    """This attempt cannot go on, and another one may succeed: a server that the engine depends on has failed.

    The job's next attempt may be here or on another worker, which continues the log.
    """

    def __init__(self, message: str, *, is_fault: bool = True) -> None:
        """`is_fault`: whether the worker's circuit breaker counts it. Not where `ReportsReadiness` says so already."""
        super().__init__(message)
        self.is_fault = is_fault


class OutOfMemory(Exception):
    """The device had no room for this batch. The engine has freed the batch's memory and can go on."""


@dataclass(slots=True)
class Cancel:
    """Set by the host. A batch's generator drops the job at its next step; a lone job's generator is closed."""

    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class EngineJob:
    """One job, as an engine sees it."""

    id: str
    input: str
    #: Turns in the place of `input`. An engine gets each of them as a job of its own, and this empty.
    script: Sequence[Turn] = ()
    voice: str = ""
    #: SHA-256 of voices when the job was accepted, by their ids; the host compares that of `voice` before each attempt.
    voice_digests: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    #: The files of the job, by a name of `Capabilities.inputs`: paths to read from, until the job ends.
    inputs: Mapping[str, str] = field(default_factory=dict)
    #: Paths of an installed voice's files, by voice without `+speaker`, then by name: those it was accepted with.
    voice_files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    #: Stacks that passed the request on, for an engine that passes it on too.
    hops: int = 0
    #: 0 … 2**63-1; the only source of chance.
    seed: int = 0
    #: First frame that the log still needs. An engine may begin earlier; the host discards the frames before it.
    start_frame: int = 0
    #: Counts from 1 over the life of the job, whichever worker runs it.
    attempt: int = 1
    #: `Checkpoint.data` of the attempts before, for `Resume.CHECKPOINT`: of the latest one that does not grow.
    checkpoint: bytes | None = None
    #: Of all since then that grow, oldest first.
    increments: Sequence[bytes] = ()
    cancel: Cancel = field(default_factory=Cancel)


@dataclass(frozen=True, slots=True)
class Estimate:
    """The expected size and cost of one job."""

    #: Device memory the job needs while it runs, beyond the loaded model.
    device_bytes: int
    #: Length of the audio; None if it is not known beforehand.
    seconds: float | None
    #: Device seconds the job is expected to take, for admission; a rough figure.
    cost_s: float


@dataclass(frozen=True, slots=True)
class MemoryPolicy:
    """Limits of an engine's device memory."""

    #: Most device memory the engine may take; None: all of it.
    budget_bytes: int | None = None
    #: `auto`, `float32`, `bfloat16`, …
    dtype: str = "auto"


@runtime_checkable
class Engine(Protocol):
    """A model on one device."""

    def capabilities(self) -> Capabilities:
        """Always the same, also before `load`."""
        ...

    def validate(self, job: EngineJob) -> EngineJob:
        """`job`, checked, with all filled in that the schema's defaults do not say. A valid job stays as it is.

        `gpuworker.admission.admit` calls it, after its own checks: a blank or too long input, params that break the
        schema, and a voice for an engine without voices do not reach it. The defaults of the schema are in `params`.

        Raises:
            Rejected: with the path of the field at fault.
        """
        ...

    def estimate(self, job: EngineJob, batch: int = 1) -> Estimate:
        """Estimate a valid job that runs in a batch of `batch`."""
        ...

    def batch_key(self, job: EngineJob) -> Hashable | None:
        """Jobs with equal keys may share one `generate`. None: the job runs alone."""
        ...

    def load(self, device: str, policy: MemoryPolicy) -> None:
        """Bring the model to `device` (`cpu`, `cuda:0`). Heavy imports belong here. Idempotent."""
        ...

    def warm_up(self) -> None:
        """Compile, fill caches, run once. Any exception makes the model unavailable."""
        ...

    def generate(self, jobs: Sequence[EngineJob]) -> Generator[tuple[int, Event], None, None]:
        """Yield (index into `jobs`, event) as audio is made; exactly one Done per job that was not cancelled.

        Every `next` should return within a second or so: between two of them a job can be cancelled and another one
        scheduled. Closing the generator at any point frees the batch's device memory.

        Raises:
            Rejected: before the first block of a job only.
            AttemptFailed: the jobs of this batch are released for their next attempts.
            OutOfMemory: the host tries again with half the batch.
            Exception: anything else fails the jobs of this batch and no other.
        """
        ...

    def unload(self) -> None:
        """Free the device. Idempotent; `load` may follow."""
        ...
