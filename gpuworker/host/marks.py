"""The marks of a block on their way into the log: only such as can be true, and no entry with more than it may have.

Pure; no I/O.
"""

from collections.abc import Iterator, Sequence

from bus import wire
from bus.wire import MAX_MARKS
from gpuworker.engine import Mark
from gpuworker.pipe import Marks


def within(marks: Sequence[Mark], first_frame: int, frames: int, input_chars: int) -> tuple[Marks, int]:
    """(those that begin in these frames, by frame; how many were no marks of this sound and this input).

    Earlier ones are neither: the frames trimmed before these are in the log, with their marks.
    """
    told = [mark for mark in marks if mark.frame >= first_frame]
    good = [
        wire.Mark(mark.frame, mark.kind, mark.start, mark.length)
        for mark in sorted(told, key=lambda mark: mark.frame)
        if mark.frame < first_frame + frames
        and mark.start >= 0 < mark.length
        and mark.start + mark.length <= input_chars
    ]
    return tuple(good), len(told) - len(good)


def shares(marks: Marks, first_frame: int, frames: int) -> Iterator[tuple[int, int, Marks]]:
    """(first frame, frames, marks) of the pieces into which these frames must be cut, mostly one.

    A piece ends before the first mark that has no room in it. Marks of one frame cannot be told apart by a cut: of
    those, what has no room is left out.
    """
    end = first_frame + frames
    while len(marks) > MAX_MARKS:
        cut = marks[MAX_MARKS].frame
        here = tuple(mark for mark in marks[:MAX_MARKS] if mark.frame < cut)
        if cut > first_frame:
            yield first_frame, cut - first_frame, here
            marks, first_frame = marks[len(here) :], cut
        else:
            marks = marks[:MAX_MARKS] + tuple(mark for mark in marks[MAX_MARKS:] if mark.frame > first_frame)
    yield first_frame, end - first_frame, marks
