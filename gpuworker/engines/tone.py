"""A signal that every client can recompute, for tests, load and chaos. `docs/engines.md` defines it.

24 kHz mono; sample i is `((i * 40503) & 0xFFFF) - 32768` as s16, or with a clip `clip[i % len(clip)]`. Any block can be
made alone, so a stream resumes at any frame. `params` set how long a block takes, whether jobs share the device, and,
where faults are allowed, which fault happens at which block.
"""

import functools
import os
import time
from collections.abc import Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bus.bound import SecondsParam
from bus.voices import REFERENCE
from gpuworker.engine import (
    Block,
    Capabilities,
    Checkpoint,
    Determinism,
    Done,
    EngineJob,
    EngineOptions,
    Estimate,
    Event,
    MemoryPolicy,
    OutOfMemory,
    Pause,
    Pcm,
    Rejected,
    Resume,
)
from gpuworker.engines.clip import CLIP_TEXT, read_clip
from gpuworker.engines.tone_params import DEFAULTS, FAULT_PROPERTIES, MAX_BATCH, MAX_BLOCK_MS, PROPERTIES

RATE_HZ = 24_000
_FRAMES_PER_MS = RATE_HZ // 1000
#: The signal repeats after this many frames, because 40503 is odd.
_PERIOD_FRAMES = 65_536
_MAX_INPUT_CHARS = 100_000
_GATE_POLL_S = 0.01


@functools.cache
def _wave() -> Pcm:
    """One period and the longest block behind it, shape (frames, 1), read-only: any block is a slice of it."""
    index = np.arange(_PERIOD_FRAMES + MAX_BLOCK_MS * _FRAMES_PER_MS, dtype=np.int64)
    s16 = ((index * 40503) & 0xFFFF) - 32768
    wave = (s16.astype(np.float32) / np.float32(32768)).reshape(-1, 1)
    wave.setflags(write=False)
    return wave


@dataclass(slots=True)
class _Run:
    """One job of a `generate`, and the frame at which its next block begins."""

    index: int
    job: EngineJob
    frame: int
    block_frames: int
    end_frame: int
    #: Of its voice; None: the signal of all jobs.
    clip: Pcm | None = None

    def pcm(self, num_frames: int) -> Pcm:
        """The next frames."""
        if self.clip is not None:
            return self.clip[np.arange(self.frame, self.frame + num_frames) % len(self.clip)]
        first = self.frame % _PERIOD_FRAMES
        return _wave()[first : first + num_frames]

    @property
    def block(self) -> int:
        """Index of the next block."""
        return self.frame // self.block_frames

    def fault(self, batch: int) -> str | None:
        """The kind of fault in the next block, if it is made together with `batch` - 1 others; None: no fault."""
        fault = self.job.params.get("fault")
        if fault is None or self.block != fault["at_block"]:
            return None
        due = self.job.attempt <= fault["times"] and batch >= fault["min_batch"]
        return str(fault["kind"]) if due else None

    def is_gated(self) -> bool:
        """Whether the next block waits for a file that does not exist."""
        gate = self.job.params.get("gate")
        return gate is not None and self.block >= gate["before_block"] and not Path(gate["path"]).exists()


def _frames(params: Mapping[str, Any]) -> int:
    seconds: float = params["seconds"]
    return max(1, round(seconds * RATE_HZ))


def _run(index: int, job: EngineJob) -> _Run:
    """A run that begins with the block that holds `start_frame`: boundaries lie where the first attempt's lay.

    With growing checkpoints it begins behind the latest of them. Raises RuntimeError if they are not those of blocks
    that follow each other.
    """
    block_frames = int(job.params["block_ms"]) * _FRAMES_PER_MS
    size, end_frame = job.params.get("checkpoint_bytes"), _frames(job.params)
    frame = job.start_frame // block_frames * block_frames
    if size is not None and job.increments:
        first = int(job.increments[0].split()[0])
        for block, data in enumerate(job.increments, first):
            if data != _increment(block, size):
                raise RuntimeError(f"growing checkpoint {block} is {data[:16]!r}, {len(data)} bytes")
        frame = min((first + len(job.increments)) * block_frames, end_frame)
    return _Run(index, job, frame, block_frames, end_frame, read_clip(job.inputs) if job.inputs else None)


def _increment(block: int, size: int) -> bytes:
    """The growing checkpoint after block `block`: its number, again and again."""
    return (b"%d " % block * size)[:size]


class ToneOptions(EngineOptions, frozen=True, kw_only=True):
    """Options of `[engines.tone]`."""

    #: Accept the params `fault`, `gate` and `checkpoint_bytes`, for tests. The worker's `--allow-faults` sets it.
    allow_faults: bool = False


class Tone:
    """The engine. It holds no device memory and is ready at once."""

    Options = ToneOptions

    def __init__(self, options: ToneOptions | None = None) -> None:
        self._allow_faults = options is not None and options.allow_faults

    def capabilities(self) -> Capabilities:
        """The schema of `params` has faults only where they are allowed."""
        return Capabilities(
            name="tone",
            kind="tone",
            rate_hz=RATE_HZ,
            channels=1,
            resume=Resume.RANDOM_ACCESS,
            determinism=Determinism.BITWISE,
            param_schema={
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "additionalProperties": False,
                "properties": {**PROPERTIES, **(FAULT_PROPERTIES if self._allow_faults else {})},
            },
            max_input_chars=_MAX_INPUT_CHARS,
            max_batch=MAX_BATCH,
            inputs={REFERENCE: CLIP_TEXT},
            bound=SecondsParam(param="seconds", default_s=DEFAULTS["seconds"]),
        )

    def validate(self, job: EngineJob) -> EngineJob:
        """`job` with its params filled in. Raises Rejected."""
        for name in FAULT_PROPERTIES:
            if name in job.params and not self._allow_faults:
                raise Rejected(f"params.{name}", "is refused: the worker was started without --allow-faults")
        if job.inputs:
            read_clip(job.inputs)  # here, where a wrong file fails its job alone, and none of its batch
        params = {**DEFAULTS, **job.params}
        if "fault" in params:
            params["fault"] = {"at_block": 0, "times": 1, "min_batch": 1, **params["fault"]}
        if "gate" in params:
            params["gate"] = {"before_block": 0, **params["gate"]}
        return replace(job, params=params)

    def estimate(self, job: EngineJob, batch: int = 1) -> Estimate:
        """Exact: the length and the busy time follow from the params."""
        params = {**DEFAULTS, **job.params}
        frames = _frames(params)
        blocks = -(-frames // (int(params["block_ms"]) * _FRAMES_PER_MS))
        cost_ms = blocks * (params["compute_ms"] + params["batch_ms"] * (batch - 1))
        return Estimate(device_bytes=0, seconds=frames / RATE_HZ, cost_s=cost_ms / 1000)

    def batch_key(self, job: EngineJob) -> Hashable | None:
        """Jobs of equal cost share a batch; one with a `max_batch` of 1 or a device of its own runs alone."""
        params = job.params
        if params["max_batch"] == 1 or params["device"] == "own":
            return None
        return (params["max_batch"], params["block_ms"], params["compute_ms"], params["batch_ms"])

    def load(self, device: str, policy: MemoryPolicy) -> None:
        """Compute the signal once."""
        _wave()

    def warm_up(self) -> None:
        """No effect: the first block takes as long as any other."""

    def unload(self) -> None:
        """No effect: no memory is held."""

    def generate(self, jobs: Sequence[EngineJob]) -> Generator[tuple[int, Event], None, None]:
        """One block for each running job per step; of more than `max_batch` jobs, that many at a time in turn.

        A cancelled job of a batch is dropped at its next step, without Done.
        """
        runs = [_run(index, job) for index, job in enumerate(jobs)]
        for run in runs:
            if run.frame >= run.end_frame:
                yield run.index, Done()
        runs = [run for run in runs if run.frame < run.end_frame]
        while runs := [run for run in runs if not run.job.cancel.cancelled]:
            together = runs[0].job.params["max_batch"]
            turn, waiting = runs[:together], runs[together:]
            yield from _step(turn)
            runs = waiting + [run for run in turn if run.frame < run.end_frame]


def _step(turn: Sequence[_Run]) -> Generator[tuple[int, Event], None, None]:
    while gated := [run for run in turn if run.is_gated()]:
        yield gated[0].index, Pause(_GATE_POLL_S)
    yield from _compute(turn)
    for run in turn:
        frames = min(run.block_frames, run.end_frame - run.frame)
        pcm = run.pcm(frames)
        if run.fault(len(turn)) == "nan":
            pcm = pcm.copy()
            pcm[0, 0] = np.nan
        yield run.index, Block(run.frame, pcm)
        size, block = run.job.params.get("checkpoint_bytes"), run.block
        run.frame += frames
        if size is not None:
            yield run.index, Checkpoint(run.frame, _increment(block, size), grows=True)
        if run.frame == run.end_frame:
            yield run.index, Done({} if size is None else {"increments": len(run.job.increments)})


def _compute(turn: Sequence[_Run]) -> Generator[tuple[int, Event], None, None]:
    """Take the busy time of the turn's blocks, or fail with one of its faults."""
    params = turn[0].job.params
    compute_s = (params["compute_ms"] + params["batch_ms"] * (len(turn) - 1)) / 1000
    for run in turn:
        kind = run.fault(len(turn))
        if kind == "slow":
            compute_s = max(10 * compute_s, 1.0)
        elif kind is not None:
            _fail(kind, run)
    if compute_s and params["device"] == "own":
        yield turn[0].index, Pause(compute_s)
    elif compute_s:
        time.sleep(compute_s)


def _fail(kind: str, run: _Run) -> None:
    where = f"as requested, at block {run.block} of job {run.job.id}, attempt {run.job.attempt}"
    match kind:
        case "raise":
            raise RuntimeError(f"failed {where}")
        case "oom":
            raise OutOfMemory(f"out of memory {where}")
        case "exit":
            os._exit(3)
        case "hang":
            while True:
                time.sleep(3600)
