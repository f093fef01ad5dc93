"""Drives an engine as the engine host does, and checks on the way that every event keeps the protocol."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace

import jsonschema
import numpy as np

from gpuworker.engine import Block, Checkpoint, Done, Engine, EngineJob, Event, Mark, Pcm

Events = Generator[tuple[int, Event], None, None]


@dataclass
class Output:
    """The events of one job."""

    channels: int
    blocks: list[Block] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    done: Done | None = None

    @property
    def pcm(self) -> Pcm:
        return np.concatenate([block.pcm for block in self.blocks])

    @property
    def marks(self) -> list[Mark]:
        return [mark for block in self.blocks for mark in block.marks]

    @property
    def end_frame(self) -> int:
        return self.blocks[-1].first_frame + len(self.blocks[-1].pcm)

    def from_frame(self, frame: int) -> Pcm:
        """The audio that the host appends to a log that already holds `frame` frames."""
        if not self.blocks:
            return np.zeros((0, self.channels), np.float32)
        return self.pcm[max(0, frame - self.blocks[0].first_frame) :]

    def add(self, event: Event) -> None:
        assert self.done is None, f"{event} came after Done"
        match event:
            case Block(first_frame, pcm, marks):
                assert pcm.dtype == np.float32
                assert pcm.ndim == 2
                assert pcm.shape[0] >= 1
                assert pcm.shape[1] == self.channels
                assert np.isfinite(pcm).all()
                assert np.abs(pcm).max() <= 1
                if self.blocks:
                    assert first_frame == self.end_frame
                self.blocks.append(Block(first_frame, pcm.copy(), marks))
            case Checkpoint(frame, data):
                assert frame == (self.end_frame if self.blocks else frame)
                assert len(data) <= 512 * 1024
                self.checkpoints.append(event)
            case Done():
                self.done = event


def schema_errors(engine: Engine, job: EngineJob) -> list[str]:
    """The errors of the host's check of `params`, which comes before the engine's."""
    validator = jsonschema.Draft202012Validator(engine.capabilities().param_schema)
    return [error.message for error in validator.iter_errors(dict(job.params))]


def checked(engine: Engine, job: EngineJob) -> EngineJob:
    """`job` as the host passes it to `generate`."""
    assert schema_errors(engine, job) == []
    return engine.validate(job)


def run_together(engine: Engine, jobs: Sequence[EngineJob]) -> list[Output]:
    """All of `jobs` in one `generate`, to the end. Pauses are not slept."""
    channels = engine.capabilities().channels
    results = [Output(channels) for _ in jobs]
    for index, event in engine.generate([checked(engine, job) for job in jobs]):
        results[index].add(event)
    return results


def run(engine: Engine, job: EngineJob) -> Output:
    (result,) = run_together(engine, [job])
    assert result.done is not None
    return result


def resumed(engine: Engine, job: EngineJob, frame: int, whole: Output, attempt: int = 2) -> Output:
    """A later attempt after `frame` frames, with the last checkpoint that the log held by then."""
    notes = [note for note in whole.checkpoints if note.frame <= frame]
    checkpoint = notes[-1].data if notes else None
    return run(engine, replace(job, start_frame=frame, attempt=attempt, checkpoint=checkpoint))


def next_block(events: Events) -> Block:
    for _, event in events:
        if isinstance(event, Block):
            return event
    raise AssertionError("the job ended without a further block")
