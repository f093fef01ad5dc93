"""Scripts for engines that speak: each turn is a job of its own to the engine, and all of them are one job to the host.

So a turn sounds as its text does alone, and an engine needs nothing for scripts.
"""

import itertools
import math
from collections.abc import Generator, Hashable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Final

import msgspec
import numpy as np

from bus.script import JOINT, PAUSE_S, joined, with_voices
from gpuworker.admission import admit
from gpuworker.engine import (
    Block,
    Capabilities,
    Checkpoint,
    Completeness,
    Done,
    Engine,
    EngineJob,
    Estimate,
    Event,
    Mark,
    MemoryPolicy,
    Progress,
    Rejected,
    TextLost,
)

#: Audio between two checkpoints that are made between turns; the engine may make others within one.
_CHECKPOINT_S: Final = 5.0
#: Audio that is in the log already, between two reports of progress.
_REPORT_S: Final = 1.0
_MAX_SKIPPED: Final = 100
#: Names of the fields of a turn, by those of the engine's job.
_FIELDS: Final = {"input": "text", "voice": "voice"}


class _Note(msgspec.Struct, array_like=True):
    """A checkpoint: where to go on, and the findings about the turns before."""

    turn: int = 0
    #: First frame of the turn.
    frame: int = 0
    #: (start, end) in the joined texts.
    skipped: list[tuple[int, int]] = []
    #: Whether every turn before knows that it spoke all its words.
    is_complete: bool = True
    #: The engine's own checkpoint within the turn, and its frame, counted from `frame`.
    inner: bytes | None = None
    inner_frame: int = 0
    #: Those since then that grow.
    increments: list[bytes] = []

    @classmethod
    def of(cls, job: EngineJob) -> "_Note":
        """Where to begin: at the checkpoint, or at the beginning if there is none before the first missing frame."""
        note = cls() if job.checkpoint is None else msgspec.msgpack.decode(job.checkpoint, type=cls)
        for data in job.increments:
            note.inner_frame, increment = msgspec.msgpack.decode(data, type=tuple[int, bytes])
            note.increments.append(increment)
        return note if note.frame + note.inner_frame <= job.start_frame else cls()


class ScriptReader:
    """An engine that takes jobs with a script, made of one that takes jobs with an input."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def capabilities(self) -> Capabilities:
        """Those of the engine."""
        return self._engine.capabilities()

    def validate(self, job: EngineJob) -> EngineJob:
        """`job` with its joined texts as input, and the voice of each turn. Raises Rejected with the turn's field."""
        capabilities = self.capabilities()
        if not capabilities.scripts:
            raise Rejected("script", f"{capabilities.name} takes no script, only an input")
        if job.voice:
            # By a text of its own: the voice may speak none of the turns.
            job = replace(job, voice=self._engine.validate(replace(_turn(job, 0), input="a", voice=job.voice)).voice)
        script = with_voices(job.script, job.voice or capabilities.default_voice, capabilities.voices)
        named = replace(job, input=joined(script), script=tuple(script))
        voices = [self._valid(named, index).voice for index in range(len(script))]
        turns = (msgspec.structs.replace(turn, voice=voice) for turn, voice in zip(script, voices, strict=True))
        return replace(named, script=tuple(turns))

    def _valid(self, job: EngineJob, index: int) -> EngineJob:
        with _naming(job, index):
            return admit(self._engine, _turn(job, index))

    def estimate(self, job: EngineJob, batch: int = 1) -> Estimate:
        """The engine's figures for all turns together; those of a valid job."""
        parts = [self._engine.estimate(self._valid(job, index)) for index in range(len(job.script))]
        seconds = [part.seconds for part in parts if part.seconds is not None]
        pauses_s = PAUSE_S * (len(parts) - 1)
        return Estimate(
            device_bytes=max(part.device_bytes for part in parts),
            seconds=math.fsum(seconds) + pauses_s if len(seconds) == len(parts) else None,
            cost_s=math.fsum(part.cost_s for part in parts),
        )

    def batch_key(self, job: EngineJob) -> Hashable | None:
        """None: a script runs alone."""
        return None

    def load(self, device: str, policy: MemoryPolicy) -> None:
        """As the engine."""
        self._engine.load(device, policy)

    def warm_up(self) -> None:
        """As the engine."""
        self._engine.warm_up()

    def unload(self) -> None:
        """As the engine."""
        self._engine.unload()

    def generate(self, jobs: Sequence[EngineJob]) -> Generator[tuple[int, Event], None, None]:
        """Speak the scripts one after the other. Raises as the engine, with the turn's field."""
        for index, job in enumerate(jobs):
            with closing(_Reading(self._engine, job).events()) as events:
                for event in events:
                    yield index, event


class _Reading:
    """One valid job of a reader, from its beginning or its checkpoint to its end."""

    def __init__(self, engine: Engine, job: EngineJob) -> None:
        self._engine = engine
        self._job = job
        self._rate_hz = engine.capabilities().rate_hz
        self._pause = np.zeros((int(PAUSE_S * self._rate_hz), engine.capabilities().channels), np.float32)
        #: Where a replacement would go on now.
        self._note = _Note.of(job)
        #: The next frame.
        self._frame = self._note.frame + self._note.inner_frame
        self._noted = self._reported = self._frame
        #: Whether the checkpoints of the log have the note and the engine's state in this turn: its next one that grows
        #: then adds to them. Not if they are of frames that the log does not have.
        self._is_noted = self._frame > 0 or (job.checkpoint is None and not job.increments)

    def events(self) -> Generator[Event, None, None]:
        """The job's events, Done at the end unless it was cancelled."""
        note, script = self._note, self._job.script
        starts = _starts(self._job)
        for index in range(note.turn, len(script)):
            if index > note.turn:
                yield from self._pass_on(Block(self._frame, self._pause))
                note = self._note = _Note(index, self._frame, note.skipped, note.is_complete)
                self._is_noted = False
                if self._frame - self._noted >= _CHECKPOINT_S * self._rate_hz:
                    yield from self._checkpoint()
            with _naming(self._job, index):
                done = yield from self._speak(index, starts[index])
            if done is None:
                return
            note.is_complete &= done.completeness is Completeness.WORDS
            spans = ((start + starts[index], end + starts[index]) for start, end in done.skipped)
            note.skipped += itertools.islice(spans, _MAX_SKIPPED - len(note.skipped))
        facts = {"turns": len(script), "voices": list(dict.fromkeys(turn.voice for turn in script))}
        yield Done(facts, Completeness.WORDS if note.is_complete else Completeness.NONE, tuple(note.skipped))

    def _speak(self, index: int, start: int) -> Generator[Event, None, Done | None]:
        """Turn `index`, whose text begins at `start` of the joined texts. Returns the engine's Done, if it made one."""
        note = self._note
        turn = replace(_turn(self._job, index), start_frame=note.inner_frame, checkpoint=note.inner)
        turn = replace(turn, increments=tuple(note.increments))
        with closing(self._engine.generate([self._engine.validate(turn)])) as events:
            for _, event in events:
                match event:
                    case Block(first_frame=frame, pcm=pcm, marks=marks):
                        moved = (Mark(note.frame + m.frame, m.kind, start + m.start, m.length) for m in marks)
                        yield from self._pass_on(Block(note.frame + frame, pcm, tuple(moved)))
                    case Checkpoint():
                        yield from self._pass_on_checkpoint(event)
                    case Done():
                        return event
                    case _:
                        yield event
        return None

    def _pass_on(self, block: Block) -> Iterator[Event]:
        """`block`, or progress from time to time if all of it is in the log."""
        self._frame = block.first_frame + len(block.pcm)
        start = self._job.start_frame
        if self._frame > start:
            yield block
        elif self._frame - self._reported >= _REPORT_S * self._rate_hz:
            self._reported = self._frame
            yield Progress("replay", self._frame / self._rate_hz, start / self._rate_hz)

    def _pass_on_checkpoint(self, inner: Checkpoint) -> Iterator[Event]:
        """The engine's checkpoint within its turn. One that grows is never left out: the next one would not fit."""
        note = self._note
        note.inner_frame = inner.frame
        if not inner.grows:
            note.inner = inner.data
            note.increments = []
            self._is_noted = False
            yield from self._checkpoint()
        elif self._is_noted:
            yield Checkpoint(self._frame, msgspec.msgpack.encode((inner.frame, inner.data)), grows=True)
        else:
            note.increments.append(inner.data)
            yield from self._checkpoint(is_needed=True)

    def _checkpoint(self, *, is_needed: bool = False) -> Iterator[Event]:
        if is_needed or self._frame >= self._job.start_frame:
            self._noted = self._frame
            self._is_noted = True
            yield Checkpoint(self._frame, msgspec.msgpack.encode(self._note))


def _turn(job: EngineJob, index: int) -> EngineJob:
    """Turn `index` of a script as a job of its own."""
    turn = job.script[index]
    return replace(job, input=turn.text, voice=turn.voice, script=(), start_frame=0, checkpoint=None, increments=())


def _starts(job: EngineJob) -> list[int]:
    """Where the text of each turn begins in the joined texts."""
    return [0, *itertools.accumulate(len(turn.text) + len(JOINT) for turn in job.script)]


@contextmanager
def _naming(job: EngineJob, index: int) -> Iterator[None]:
    """Turn an error about the field of an engine's job into one about the field of a turn."""
    try:
        yield
    except Rejected as error:
        if error.path not in _FIELDS:  # params are the whole job's
            raise
        raise Rejected(f"script[{index}].{_FIELDS[error.path]}", error.message) from error
    except TextLost as error:
        raise TextLost(job.script[index].text, error.spans, error.who, f"script[{index}].text") from error
