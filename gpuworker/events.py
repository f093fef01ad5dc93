"""The events that an engine yields. Engines import these from `gpuworker.engine`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from gpuworker.capabilities import Completeness

#: Most bytes of `Checkpoint.data`.
MAX_CHECKPOINT_BYTES: Final = 512 << 10

Pcm = NDArray[np.float32]


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
    """State from which another worker can continue at `frame`; of `MAX_CHECKPOINT_BYTES` at most, for the bus."""

    frame: int
    data: bytes
    #: `data` holds only what is new since the checkpoint before it, which may be of an earlier attempt; the first one
    #: adds to nothing. A replacement gets all since the latest that does not grow, in `EngineJob.increments`.
    grows: bool = False


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
    #: `WORDS`: every word of the input was spoken. An engine of `Completeness.WORDS` may have voices that are not.
    completeness: Completeness = Completeness.NONE
    #: (start, end) in the input of tokens without a letter or digit that were not spoken, as emoji without a name.
    skipped: Sequence[tuple[int, int]] = ()


Event = Block | Progress | Checkpoint | Pause | Done
