"""The protocol between a model and the worker.

An engine imports this module, its model's library, and of ours only `bus.text`, `bus.sentences` and `bus.process`. The
engine host drives every engine from one thread, one call at a time: an engine needs no locks and may keep state between
calls. It never touches asyncio, NATS, HTTP, settings or the environment, so a notebook can drive it as the host does:

    engine.load("cpu", MemoryPolicy())
    job = engine.validate(EngineJob(id="n1", input="Hello"))
    for _, event in engine.generate([job]): ...
"""

from collections.abc import Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray

Pcm = NDArray[np.float32]


class Rejected(Exception):
    """The job is at fault, not the engine: in the field `path` (`input`, `voice`, `params.seconds`).

    `message` names the limit and the value.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.message = message


class OutOfMemory(Exception):
    """The device had no room for this batch. The engine has freed the batch's memory and can go on."""


class Resume(StrEnum):
    """How a second worker continues a stream at `start_frame`."""

    #: Any frame can be computed alone.
    RANDOM_ACCESS = "random_access"
    #: Everything before `start_frame` is computed again (and thrown away) on the way.
    REPLAY = "replay"
    #: From a `Checkpoint` of the attempt before.
    CHECKPOINT = "checkpoint"
    #: Only from the beginning, and not sample by sample: the transition is audible.
    RESTART = "restart"


class Determinism(StrEnum):
    """How equal the audio of equal input, parameters and seed is."""

    BITWISE = "bitwise"
    SAME_BUILD = "same_build"
    TOLERANCE = "tolerance"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Voice:
    """One voice of a model; a job's `voice` is its id."""

    id: str
    name: str
    #: BCP 47 tag, as the engine's library spells it.
    language: str
    #: Empty if unknown.
    gender: str = ""


class EngineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's choices for one engine: each field, with a default, is an option of `[engines.<name>]`.

    An engine that has options derives a struct from this, names it in its class attribute `Options`, and takes an
    instance in its constructor. An engine without the attribute has none and is made without an argument.
    """


@dataclass(frozen=True, slots=True)
class Requirement:
    """A Python module or a system library that an engine cannot be loaded without, and how to install it."""

    #: For a module, the argument of `pip install`, extra included (`antiphon[models]`); for a library, a whole command.
    install: str
    #: Import name of the module; empty for a library.
    module: str = ""
    #: Name of the library as the linker takes it, `flite` for libflite.so; empty for a module.
    library: str = ""
    #: Any of these is enough instead.
    otherwise: tuple["Requirement", ...] = ()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Description of an engine; constant for its life and readable before `load`."""

    #: The model's name and version on the bus, one subject token each.
    name: str
    #: speech | music | tone | …
    kind: str
    #: Frames per second, and samples per frame, of every block.
    rate_hz: int
    channels: int
    resume: Resume
    determinism: Determinism
    #: JSON Schema (draft 2020-12) of a job's `params`: an object with `additionalProperties: false`.
    param_schema: Mapping[str, Any]
    #: Longest `input`, in characters.
    max_input_chars: int
    version: str = "v1"
    #: Empty for a model without voices.
    voices: tuple[Voice, ...] = ()
    #: Id of the voice of a job that names none.
    default_voice: str = ""
    #: Most jobs that share one forward.
    max_batch: int = 1
    #: SPDX expression of all that runs, weights included.
    licence: str = "Apache-2.0"
    #: Without these the engine cannot be loaded. `antiphon doctor` checks them and prints how to install them.
    requires: tuple[Requirement, ...] = ()

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages of the voices, sorted."""
        return tuple(sorted({voice.language for voice in self.voices}))


@dataclass(slots=True)
class Cancel:
    """Set by the host. A batch's generator drops the job at its next step; a lone job's generator is closed."""

    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class EngineJob:
    """One job, as an engine sees it."""

    id: str
    input: str
    voice: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    #: 0 … 2**63-1; the only source of chance.
    seed: int = 0
    #: First frame that the log still needs. An engine may begin earlier; the host discards the frames before it.
    start_frame: int = 0
    #: Counts from 1 over the life of the job, whichever worker runs it.
    attempt: int = 1
    #: `Checkpoint.data` of the attempt before, for `Resume.CHECKPOINT`.
    checkpoint: bytes | None = None
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


@dataclass(frozen=True, slots=True)
class Mark:
    """The frame at which a piece of the input begins to sound."""

    #: Frame of the job, as `Block.first_frame` is.
    frame: int
    kind: Literal["word", "sentence"]
    #: Position in the job's original `input`, and length ≥ 1, in characters (Unicode code points).
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Block:
    """Audio from `first_frame` on. Blocks of a job are contiguous and in order."""

    first_frame: int
    #: float32, shape (frames, channels), in [-1, 1], frames ≥ 1; the host copies it before the next step.
    pcm: Pcm
    #: The marks that begin within this block, by frame; words also by `start`, without overlap. Never an estimate: an
    #: engine that does not know positions gives none.
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """Work that made no audio: a denoise step, a token. The total is None if it is not known beforehand."""

    phase: str
    done: float
    total: float | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State from which another worker can continue at `frame`; at most 512 KiB, for it is sent over the bus."""

    frame: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Pause:
    """The job waits `seconds` for something other than the device.

    The host runs other jobs meanwhile and continues this one after that time. It does not count as progress.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class Done:
    """The job's last event. `facts` go to the log's `done` entry unchanged (JSON types only)."""

    facts: Mapping[str, Any] = field(default_factory=dict)


Event = Block | Progress | Checkpoint | Pause | Done


@runtime_checkable
class Engine(Protocol):
    """A model on one device."""

    def capabilities(self) -> Capabilities:
        """Always the same, also before `load`."""
        ...

    def validate(self, job: EngineJob) -> EngineJob:
        """`job` with defaults filled in. The caller has checked `params` against `param_schema`.

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
            Rejected: before the first event of a job only.
            OutOfMemory: the host tries again with half the batch.
            Exception: anything else fails the jobs of this batch and no other.
        """
        ...

    def unload(self) -> None:
        """Free the device. Idempotent; `load` may follow."""
        ...


@runtime_checkable
class ReportsMemory(Protocol):
    """An engine that can read how much of its device it holds. An engine need not be one."""

    def device_bytes(self) -> int | None:
        """Device memory that this process holds, in use or cached; None on the CPU and before `load`.

        Engines of one library share its pool and report the same value: the host takes the largest. It is called
        between two steps, about once a second, and must not wait for the device.
        """
        ...
