"""The marks of a block on their way into the log: only valid ones, and no entry with more than it may have.

Pure; no I/O.
"""

from collections.abc import Iterator, Sequence

from bus import wire
from bus.wire import MAX_MARKS
from gpuworker.engine import Mark
from gpuworker.pipe import Marks


def valid_marks(marks: Sequence[Mark], first_frame: int, num_frames: int, input_chars: int) -> tuple[Marks, int]:
    """Return (the marks that begin in these frames, by frame; the number of invalid ones).

    A mark is invalid behind the last frame, or if its text is empty or outside the input. Earlier marks are neither:
    the frames trimmed before `first_frame` are in the log, with their marks.
    """
    candidates = [mark for mark in marks if mark.frame >= first_frame]
    valid = [
        wire.Mark(mark.frame, mark.kind, mark.start, mark.length)
        for mark in sorted(candidates, key=lambda mark: mark.frame)
        if mark.frame < first_frame + num_frames
        and mark.start >= 0 < mark.length
        and mark.start + mark.length <= input_chars
    ]
    return tuple(valid), len(candidates) - len(valid)


def cut_at_marks(marks: Marks, first_frame: int, num_frames: int) -> Iterator[tuple[int, int, Marks]]:
    """Yield (first frame, frames, marks) of the pieces into which these frames must be cut, mostly one.

    A piece ends before the first mark that has no room in it. Marks of one frame cannot be separated by a cut: those
    of them that have no room are left out.
    """
    end = first_frame + num_frames
    while len(marks) > MAX_MARKS:
        cut = marks[MAX_MARKS].frame
        here = tuple(mark for mark in marks[:MAX_MARKS] if mark.frame < cut)
        if cut > first_frame:
            yield first_frame, cut - first_frame, here
            marks = marks[len(here) :]
            first_frame = cut
        else:
            marks = marks[:MAX_MARKS] + tuple(mark for mark in marks[MAX_MARKS:] if mark.frame > first_frame)
    yield first_frame, end - first_frame, marks
