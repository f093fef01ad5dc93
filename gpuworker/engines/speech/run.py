"""One job of the speech engine, from its first part or its checkpoint to its end."""

from collections.abc import Generator
from contextlib import closing
from typing import Final

import msgspec
import numpy as np

from gpuworker.engine import Block, Checkpoint, Done, EngineJob, Event, Mark, Pcm, Progress
from gpuworker.engines.speech.library import RATE_HZ, Library
from gpuworker.engines.text.parts import Part

#: Audio between two checkpoints: a replacement makes at most this much again, some tens of milliseconds' work.
_CHECKPOINT_FRAMES: Final = 30 * RATE_HZ
#: The shortest audio: a text that makes none becomes this much silence.
_SILENCE_FRAMES: Final = RATE_HZ // 10
#: Silence that is made at a time.
_PAUSE_FRAMES: Final = RATE_HZ // 4
#: Most tokens that are listed as skipped.
_MAX_SKIPPED: Final = 100


class _Note(msgspec.Struct):
    """Content of a checkpoint: the next part, its first frame, and what was not spoken before it."""

    part: int = 0
    frame: int = 0
    skipped: list[tuple[int, int]] = []


class Run:
    """Speaks one valid job with its library."""

    def __init__(self, library: Library, job: EngineJob) -> None:
        self._library = library
        self._job = job
        note = msgspec.json.decode(job.checkpoint, type=_Note) if job.checkpoint is not None else _Note()
        if note.frame > job.start_frame:
            note = _Note()
        self._first_part = note.part
        self._frame = self._checkpoint_frame = self._progress_frame = note.frame
        self._skipped = note.skipped

    def events(self) -> Generator[Event, None, None]:
        """The job's events, Done at the end. Raises SpeakerFailed, TextLost."""
        for number, part in enumerate(self._library.parts(self._job)):
            if number < self._first_part or not (part.text.strip() or part.pause_ms):
                continue
            if self._frame - self._checkpoint_frame >= _CHECKPOINT_FRAMES and self._frame >= self._job.start_frame:
                yield Checkpoint(self._frame, msgspec.json.encode(_Note(number, self._frame, self._skipped)))
                self._checkpoint_frame = self._frame
            if part.text.strip():
                yield from self._part(part)
            yield from self._pause(part.pause_ms)
        if self._frame < _SILENCE_FRAMES:
            yield Block(self._frame, np.zeros((_SILENCE_FRAMES - self._frame, 1), np.float32))
        facts = {"voice": self._job.voice, **self._library.facts(self._job)}
        yield Done(facts, self._library.completeness, tuple(self._skipped))

    def _part(self, part: Part) -> Generator[Event, None, None]:
        """One part as blocks of about 60 ms, the first one with the part's mark; Progress for those that are over."""
        marks: tuple[Mark, ...] = (part.mark(self._frame),)
        with closing(self._library.speak(self._job, part, self._frame)) as sounds:
            for sound in sounds:
                self._skipped += sound.skipped[: _MAX_SKIPPED - len(self._skipped)]
                if len(sound.pcm):
                    yield from self._block(sound.pcm, marks + sound.words)
                    marks = ()

    def _pause(self, milliseconds: int) -> Generator[Event, None, None]:
        frames = RATE_HZ * milliseconds // 1000
        while frames:
            count = min(frames, _PAUSE_FRAMES)
            yield from self._block(np.zeros((count, 1), np.float32), ())
            frames -= count

    def _block(self, pcm: Pcm, marks: tuple[Mark, ...]) -> Generator[Event, None, None]:
        block = Block(self._frame, pcm, marks)
        self._frame += len(pcm)
        if self._frame > self._job.start_frame:
            yield block
        elif self._frame - self._progress_frame >= _CHECKPOINT_FRAMES:
            yield Progress("replay", self._frame / RATE_HZ, self._job.start_frame / RATE_HZ)
            self._progress_frame = self._frame
