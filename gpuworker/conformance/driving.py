"""Drives an engine as the engine host does, and checks on the way that every event keeps the protocol."""

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from bus.errors import Invalid
from bus.params import check
from gpuworker.admission import admit
from gpuworker.conformance.rules import Broken, require
from gpuworker.engine import MAX_CHECKPOINT_BYTES, Block, Checkpoint, Done, Engine, EngineJob, Event, Mark, Pause, Pcm

Events = Generator[tuple[int, Event], None, None]
#: Longest time that a job may pause without another event. Pauses are skipped at first, then cut short.
PATIENCE_S: Final = 20.0
_SPIN_S: Final = 1.0
_PAUSE_S: Final = 0.01


@dataclass
class Output:
    """The events of one job."""

    channels: int
    blocks: list[Block] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    done: Done | None = None

    @property
    def pcm(self) -> Pcm:
        """All audio, float32, shape (frames, channels)."""
        return np.concatenate([np.zeros((0, self.channels), np.float32), *(block.pcm for block in self.blocks)])

    @property
    def marks(self) -> list[Mark]:
        """The marks of all blocks, in order."""
        return [mark for block in self.blocks for mark in block.marks]

    @property
    def end_frame(self) -> int:
        """The frame behind the last block; 0 without a block."""
        return self.blocks[-1].first_frame + len(self.blocks[-1].pcm) if self.blocks else 0

    def from_frame(self, frame: int) -> Pcm:
        """The audio that the host appends to a log that already holds `frame` frames."""
        return self.pcm[max(0, frame - self.blocks[0].first_frame) :] if self.blocks else self.pcm

    def add(self, event: Event) -> None:
        """Append an event. Raises Broken for one that the protocol does not allow here."""
        require(self.done is None, f"{type(event).__name__} came after Done")
        match event:
            case Block():
                self._check(event)
                self.blocks.append(Block(event.first_frame, event.pcm.copy(), event.marks))
            case Checkpoint(frame=frame, data=data):
                end = self.end_frame if self.blocks else frame
                require(frame == end, f"a checkpoint is at frame {frame}, the audio ends at {end}")
                size, limit = len(data), MAX_CHECKPOINT_BYTES
                require(size <= limit, f"a checkpoint at frame {frame} has {size} bytes, the limit is {limit}")
                self.checkpoints.append(event)
            case Done():
                self.done = event

    def _check(self, block: Block) -> None:
        pcm, where = block.pcm, f"the block at frame {block.first_frame}"
        require(pcm.dtype == np.float32, f"{where} is {pcm.dtype}, not float32")
        shape = f"(frames, {self.channels})"
        require(pcm.ndim == 2 and pcm.shape[1] == self.channels, f"{where} has the shape {pcm.shape}, not {shape}")
        require(len(pcm) >= 1, f"{where} has no frame")
        require(np.isfinite(pcm).all(), f"{where} has a sample that is no finite number")
        loudest = float(np.abs(pcm).max())
        require(loudest <= 1, f"{where} has a sample of {loudest:g}, the limit is 1")
        if self.blocks:
            require(block.first_frame == self.end_frame, f"{where} follows one that ends at frame {self.end_frame}")


def schema_errors(engine: Engine, job: EngineJob) -> list[str]:
    """The first error of the host's check of `params`, which comes before the engine's; none if they are valid."""
    try:
        check(dict(engine.capabilities().param_schema), job.params)
    except Invalid as error:
        return [str(error)]
    return []


def checked(engine: Engine, job: EngineJob) -> EngineJob:
    """`job` as the host passes it to `generate`. Raises Rejected, or Broken for params that the schema refuses."""
    try:
        return admit(engine, job)
    except Invalid as error:
        raise Broken(f"the job is not valid: {error}") from error


def bounded(events: Events) -> Iterator[tuple[int, Event]]:
    """The events of a generator, at once however long it pauses. Raises Broken if it only pauses for `PATIENCE_S`."""
    last_at = time.monotonic()
    for index, event in events:
        now = time.monotonic()
        if not isinstance(event, Pause):
            last_at = now
        elif now - last_at > PATIENCE_S:
            raise Broken(f"a job only paused for {PATIENCE_S:g} s")
        elif now - last_at > _SPIN_S:
            time.sleep(_PAUSE_S)
        yield index, event


def run_together(engine: Engine, jobs: Sequence[EngineJob]) -> list[Output]:
    """All of `jobs` in one `generate`, to the end. Pauses are not slept. Raises Broken."""
    channels = engine.capabilities().channels
    results = [Output(channels) for _ in jobs]
    for index, event in bounded(engine.generate([checked(engine, job) for job in jobs])):
        results[index].add(event)
    return results


def run(engine: Engine, job: EngineJob) -> Output:
    """One job, to its end. Raises Broken."""
    (result,) = run_together(engine, [job])
    require(result.done is not None, "the generator ended without Done")
    return result


def resumed(engine: Engine, job: EngineJob, frame: int, whole: Output, attempt: int = 2) -> Output:
    """A later attempt after `frame` frames, with the last checkpoint that the log held by then. Raises Broken."""
    notes = [note for note in whole.checkpoints if note.frame <= frame]
    return run(engine, replace(with_state(job, notes), start_frame=frame, attempt=attempt))


def with_state(job: EngineJob, notes: Sequence[Checkpoint]) -> EngineJob:
    """`job` with the state that a log with these checkpoints holds: the latest snapshot, and those since that grow."""
    increments = list[bytes]()
    checkpoint: bytes | None = None
    for note in notes:
        if note.grows:
            increments.append(note.data)
        else:
            checkpoint, increments = note.data, []
    return replace(job, checkpoint=checkpoint, increments=tuple(increments))


def next_block(events: Events) -> Block:
    """The next block of a generator of one job. Raises Broken if there is none."""
    for _, event in bounded(events):
        if isinstance(event, Block):
            return event
    raise Broken("the job ended without a further block")
