"""Checks of jobs that share a forward pass."""

from dataclasses import replace

from gpuworker.conformance.driving import Output, bounded, checked, run, run_together
from gpuworker.conformance.rules import NotApplicable, require, require_same
from gpuworker.conformance.subject import Subject
from gpuworker.engine import Cancel


def _need_batches(subject: Subject) -> None:
    if subject.engine.capabilities().max_batch == 1:
        raise NotApplicable("max_batch is 1")


def batches_only_what_it_declares(subject: Subject) -> None:
    """With a `max_batch` of 1 no job has a batch key; with more, jobs that may share a forward have the same."""
    engine = subject.engine
    keys = {engine.batch_key(checked(engine, job)) for job in subject.jobs.batched()}
    if engine.capabilities().max_batch == 1:
        require(keys == {None}, f"batch_key is {keys}, and max_batch is 1")
    else:
        is_shared = len(keys) == 1 and keys != {None}
        require(is_shared, f"the jobs have the batch keys {keys}: name params that let them share, as max_batch=4")


def sounds_the_same_in_a_batch(subject: Subject) -> None:
    """Each job of a batch of three has the audio that it has alone."""
    _need_batches(subject)
    first, second = subject.jobs.batched()
    jobs = [first, second, first]
    for number, (job, output) in enumerate(zip(jobs, run_together(subject.engine, jobs), strict=True)):
        require(output.done is not None, f"job {number} of the batch ended without Done")
        require_same(subject.engine, output.pcm, run(subject.engine, job).pcm, f"job {number} of the batch")


def drops_a_cancelled_job_of_a_batch(subject: Subject) -> None:
    """A job that is cancelled leaves its batch at the next step, and the other one is not changed by it."""
    _need_batches(subject)
    engine = subject.engine
    staying, leaving = (checked(engine, replace(job, cancel=Cancel())) for job in subject.jobs.batched())
    results = [Output(engine.capabilities().channels) for _ in range(2)]
    for index, event in bounded(engine.generate([leaving, staying])):
        results[index].add(event)
        leaving.cancel.cancelled = True
    require(results[0].done is None, "a job that was cancelled has a Done")
    num_blocks = len(results[0].blocks)
    require(num_blocks <= 1, f"a job that was cancelled at the first event made {num_blocks} blocks")
    require_same(engine, results[1].pcm, run(engine, staying).pcm, "the job that stayed in the batch")
