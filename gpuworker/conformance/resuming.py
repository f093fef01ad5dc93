"""Checks of a job that continues at a frame, as a replacement for a worker that died runs it."""

from dataclasses import replace

from gpuworker.conformance.driving import checked, next_block, resumed, run, with_state
from gpuworker.conformance.rules import NotApplicable, require, require_same
from gpuworker.conformance.subject import Subject
from gpuworker.engine import Resume


def _need_a_resume_without_seam(subject: Subject) -> None:
    if subject.engine.capabilities().resume is Resume.RESTART:
        raise NotApplicable("its seam can be heard, as resume=restart declares")


def resumes_at(share: float, subject: Subject) -> None:
    """A job that continues at `share` of its length, from its last checkpoint, has the rest of the same audio."""
    _need_a_resume_without_seam(subject)
    whole = subject.whole
    frame = int(share * whole.end_frame) + (1 if 0 < share < 1 else 0)
    rest = resumed(subject.engine, subject.jobs.first, frame, whole)
    if rest.blocks:
        begin = rest.blocks[0].first_frame
        require(begin <= frame, f"a job with start_frame {frame} begins at frame {begin}")
    require_same(subject.engine, rest.from_frame(frame), whole.pcm[frame:], f"the rest from frame {frame} on")


def resumes_with_the_marks_at(share: float, subject: Subject) -> None:
    """A job that continues at `share` of its marks, or a frame behind, has the rest of the same marks."""
    _need_a_resume_without_seam(subject)
    whole = subject.whole
    if not whole.marks:
        raise NotApplicable("it gives no marks")
    nearby = whole.marks[int(share * len(whole.marks))].frame
    for frame in (nearby, nearby + 1):
        rest = resumed(subject.engine, subject.jobs.first, frame, whole)
        marks = [mark for mark in rest.marks if mark.frame >= frame]
        expected = [mark for mark in whole.marks if mark.frame >= frame]
        require(marks == expected, f"resumed at frame {frame}, it has other marks: {marks[:3]}, not {expected[:3]}")


def resumes_without_a_checkpoint(subject: Subject) -> None:
    """A job that continues in its middle without any checkpoint has the rest of the same audio."""
    _need_a_resume_without_seam(subject)
    frame = subject.whole.end_frame // 2
    rest = run(subject.engine, replace(subject.jobs.first, start_frame=frame, attempt=2))
    whole, where = subject.whole.pcm, f"the rest from frame {frame} on, without a checkpoint"
    require_same(subject.engine, rest.from_frame(frame), whole[frame:], where)


def resumes_from_a_chain_of(count: int, subject: Subject) -> None:
    """A job that continues from `count` growing checkpoints has the rest of the same audio, and of the checkpoints."""
    _need_a_resume_without_seam(subject)
    notes = subject.whole.checkpoints
    ends = [n for n in range(count, len(notes) + 1) if all(note.grows for note in notes[n - count : n])]
    if not ends:
        raise NotApplicable(f"no {count} growing checkpoints follow each other in its first job")
    end = ends[0]
    engine, frame, whole = subject.engine, notes[end - 1].frame, subject.whole.pcm
    job = with_state(subject.jobs.first, notes[:end])
    rest = run(engine, replace(job, start_frame=frame, attempt=2))
    require_same(engine, rest.from_frame(frame), whole[frame:], f"the rest behind {count} growing checkpoints")
    late = [note for note in rest.checkpoints if note.grows]
    due = [note for note in notes[end:] if note.grows]
    require(late == due, f"{count} growing checkpoints are followed by {len(late)} others, not by the same {len(due)}")


def begins_near_the_frame_it_resumes_at(subject: Subject) -> None:
    """A resumed job begins at its frame or before, and one of random access no more than a second before."""
    engine, frame = subject.engine, subject.whole.end_frame // 2
    events = engine.generate([checked(engine, replace(subject.jobs.first, start_frame=frame))])
    first = next_block(events)
    events.close()
    is_random = engine.capabilities().resume is Resume.RANDOM_ACCESS
    least = frame - engine.capabilities().rate_hz if is_random else 0
    require(least <= first.first_frame <= frame, f"resumed at {frame}, it begins at {first.first_frame}")
