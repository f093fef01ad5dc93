"""One job that is read aloud: its sentences as audio, from a checkpoint on."""

from collections.abc import Generator, Iterator, Sequence
from typing import Final, Protocol

import msgspec
import numpy as np

from gpuworker.engine import Block, Checkpoint, Completeness, Done, EngineJob, Event, Mark, Pcm, Progress, TextLost
from gpuworker.engines.reading.reader import Reading
from gpuworker.engines.text.coverage import Span
from gpuworker.engines.text.parts import Part
from gpuworker.engines.text.plain import plain_parts
from gpuworker.engines.text.spelling import spell

#: Silence behind a sentence at normal speed.
_PAUSE_S: Final = 0.15
#: Longest block of silence.
_PAUSE_BLOCK_S: Final = 1
#: Audio between two checkpoints: a replacement computes the lengths of at most so many seconds of sentences again.
_CHECKPOINT_S: Final = 10
#: The shortest audio: a text that makes none becomes this much silence.
_SILENCE_S: Final = 0.1
#: Most tokens that are listed as skipped.
_MAX_SKIPPED: Final = 100


class Sentence(Protocol):
    """A sentence that can be made audio of."""

    @property
    def frames(self) -> int:
        """Length of its audio."""
        ...

    @property
    def words(self) -> Sequence[tuple[int, Span]]:
        """In order: the frame of the sentence at which a word begins, and its (start, end) in the original text."""
        ...

    def windows(self, skip: int) -> Iterator[tuple[int, Pcm]]:
        """(First frame, audio) of pieces of at most a second, from the one on that holds frame `skip`.

        Audio is float32, shape (frames, 1), in [-1, 1]. Raises OutOfMemory.
        """
        ...


class Speaker(Protocol):
    """A voice that speaks as one job says."""

    @property
    def language(self) -> str:
        """BCP 47, in lower case: texts are spelled by its rules."""
        ...

    def read(self, part: Part) -> Reading:
        """The phonemes of a part. Raises SpeakerFailed."""
        ...

    def pieces(self, reading: Reading) -> Sequence[Reading]:
        """The reading of a sentence, in pieces that are made one after the other."""
        ...

    def sentence(self, reading: Reading, number: int) -> Sentence | None:
        """A piece of sentence `number` of the job; None if nothing of it has a sound. Raises OutOfMemory."""
        ...


class _Note(msgspec.Struct, array_like=True):
    """A checkpoint: the next part of the text, its first frame, and the tokens that were skipped before it."""

    part: int = 0
    frame: int = 0
    skipped: list[Span] = []

    @classmethod
    def of(cls, job: EngineJob) -> "_Note":
        """Where to begin: at the checkpoint, or at the beginning if there is none before the first missing frame."""
        note = cls() if job.checkpoint is None else msgspec.json.decode(job.checkpoint, type=cls)
        return note if note.frame <= job.start_frame else cls()


class Run:
    """Speaks one valid job."""

    def __init__(self, job: EngineJob, speaker: Speaker, rate_hz: int) -> None:
        self._job = job
        self._speaker = speaker
        self._rate_hz = rate_hz
        self._pause = int(_PAUSE_S * rate_hz / float(job.params["speed"]))
        note = _Note.of(job)
        self._first_part = note.part
        self._frame = note.frame
        self._skipped = note.skipped

    def events(self) -> Generator[Event, None, None]:
        """The job's events, Done at the end. Raises SpeakerFailed, TextLost, OutOfMemory."""
        noted = self._frame
        for number, part in enumerate(plain_parts(self._job, self._speaker.language)):
            if number < self._first_part or not (part.text.strip() or part.pause_ms):
                continue
            if self._frame - noted >= _CHECKPOINT_S * self._rate_hz and self._frame >= self._job.start_frame:
                yield Checkpoint(self._frame, msgspec.json.encode(_Note(number, self._frame, self._skipped)))
                noted = self._frame
            if part.text.strip():
                yield from self._speak(spell(part, self._speaker.language), number)
            yield from self._silence(part.pause_ms * self._rate_hz // 1000)
        yield from self._silence(int(_SILENCE_S * self._rate_hz) - self._frame)
        yield Done({"voice": self._job.voice}, Completeness.WORDS, tuple(self._skipped))

    def _speak(self, part: Part, number: int) -> Generator[Event, None, None]:
        """One sentence and its pause."""
        reading = self._speaker.read(part)
        if reading.lost:
            raise TextLost(self._job.input, reading.lost, f"the voice {self._job.voice}")
        self._skipped += reading.skipped[: _MAX_SKIPPED - len(self._skipped)]
        marks = [part.mark(self._frame)]
        for piece in self._speaker.pieces(reading):
            sentence = self._speaker.sentence(piece, number)
            if sentence is not None:
                yield from self._sound(sentence, marks)
                marks = []
        if not marks:
            yield from self._silence(self._pause)

    def _sound(self, sentence: Sentence, marks: list[Mark]) -> Generator[Event, None, None]:
        """A piece of a sentence, with `marks` before those of its words."""
        frame, start = self._frame, self._job.start_frame
        self._frame += sentence.frames
        if self._frame <= start:  # all of it is in the log: only its length matters
            yield Progress("replay", frame / self._rate_hz, start / self._rate_hz)
            return
        words = [Mark(frame + at, "word", begin, end - begin) for at, (begin, end) in sentence.words]
        marks = [*marks, *words]
        for at, pcm in sentence.windows(start - frame):
            first = frame + at
            yield Block(first, pcm, tuple(mark for mark in marks if first <= mark.frame < first + len(pcm)))

    def _silence(self, frames: int) -> Generator[Event, None, None]:
        while frames > 0:
            count = min(frames, _PAUSE_BLOCK_S * self._rate_hz)
            frame = self._frame
            self._frame += count
            frames -= count
            if self._frame > self._job.start_frame:
                yield Block(frame, np.zeros((count, 1), np.float32))
