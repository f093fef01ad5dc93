"""Left behind by an engine host: the job that it was stepping."""

import mmap

from gpuworker.crash import StepMark


def test_the_step_mark_names_the_job_being_stepped_and_none_between_steps() -> None:
    mark = StepMark(mmap.mmap(-1, StepMark.SIZE))
    assert mark.read() == (0, 0.0)
    mark.enter(42, 17.25)
    assert mark.read() == (42, 17.25)
    mark.leave()
    assert mark.read()[0] == 0
