"""Checks of a job's audio and marks, of equal jobs, and of jobs that run in turn."""

import json

import numpy as np

from bus.bound import SecondsParam
from gpuworker.conformance.driving import Output, bounded, checked, next_block, run
from gpuworker.conformance.rules import NotApplicable, require, require_same
from gpuworker.conformance.subject import Subject
from gpuworker.engine import EngineJob

#: A job whose loudest sample is below this is taken for silence.
_SILENCE = 0.01
#: Frames that rounding may add to a bound.
_ROUNDING_FRAMES = 64


def makes_audio_from_frame_0_and_one_done(subject: Subject) -> None:
    """A job is half a second of audio or more, not silent, from frame 0 on, and ends with Done and facts in JSON."""
    whole, rate_hz = subject.whole, subject.engine.capabilities().rate_hz
    require(whole.blocks, "the first job made no block")
    require(whole.blocks[0].first_frame == 0, f"the audio begins at frame {whole.blocks[0].first_frame}, not 0")
    require(
        whole.end_frame > rate_hz // 2, f"the first job is {whole.end_frame / rate_hz:.3g} s long; give a longer one"
    )
    loudest = float(np.abs(whole.pcm).max())
    require(loudest > _SILENCE, f"the first job is silent: its loudest sample is {loudest:g}")
    json.dumps(dict(whole.done.facts if whole.done else {}))


def makes_no_more_than_its_bound(subject: Subject) -> None:
    """No job is longer than the bound of the card says."""
    capabilities = subject.engine.capabilities()
    bound, rate_hz = capabilities.bound, capabilities.rate_hz
    if bound is None:
        raise NotApplicable("it declares no bound")
    for job in (subject.jobs.first, subject.jobs.second):
        valid = checked(subject.engine, job)
        if isinstance(bound, SecondsParam):
            limit_s = float(valid.params.get(bound.param, bound.default_s))
        else:
            limit_s = bound.seconds(valid.input, valid.voice, valid.params)
        frames = run(subject.engine, job).end_frame
        made = f"job {job.id!r} is {frames / rate_hz:.3f} s long"
        require(frames <= limit_s * rate_hz + _ROUNDING_FRAMES, f"{made}, its bound says {limit_s:.3f} s at most")


def begins_before_the_rest_is_made(subject: Subject) -> None:
    """The first job has three blocks or more, the first of them of one second at most."""
    num_blocks, first = len(subject.whole.blocks), subject.whole.blocks[:1]
    require(
        num_blocks >= 3, f"the first job has {num_blocks} blocks, fewer than 3: make smaller ones, or give a longer job"
    )
    length_s = len(first[0].pcm) / subject.engine.capabilities().rate_hz
    require(length_s <= 1, f"the first block is {length_s:.3g} s long, the limit is 1 s")


def marks_words_and_sentences_in_order(subject: Subject) -> None:
    """Marks are in order, within their block and within the input; none of a kind lies over another."""
    for job, output in (
        (subject.jobs.first, subject.whole),
        (subject.jobs.second, run(subject.engine, subject.jobs.second)),
    ):
        _check_places(output)
        _check_stretches(job, output)


def _check_places(output: Output) -> None:
    for block in output.blocks:
        for mark in block.marks:
            end = block.first_frame + len(block.pcm)
            require(block.first_frame <= mark.frame < end, f"{mark} is not in its block, {block.first_frame} to {end}")
    frames = [mark.frame for mark in output.marks]
    require(frames == sorted(frames), "the frames of the marks are not in order")


def _check_stretches(job: EngineJob, output: Output) -> None:
    for mark in output.marks:
        is_inside = mark.start >= 0 < mark.length and mark.start + mark.length <= len(job.input)
        require(is_inside, f"{mark} is not within the input, which has {len(job.input)} characters")
        require(mark.kind in {"word", "sentence"}, f"{mark} is neither of a word nor of a sentence")
    for kind in ("word", "sentence"):
        end = 0
        for mark in (mark for mark in output.marks if mark.kind == kind):
            require(mark.start >= end, f"{mark} begins before the end of the one before it, {end}")
            end = mark.start + mark.length


def repeats_itself(subject: Subject) -> None:
    """A job that runs again, after another one, has the same audio."""
    run(subject.engine, subject.jobs.second)
    again = run(subject.engine, subject.jobs.first)
    require_same(subject.engine, again.pcm, subject.whole.pcm, "the first job, run again")


def sounds_the_same_in_another_instance(subject: Subject) -> None:
    """Another instance of the engine makes the same audio of the same job."""
    other = subject.load()
    try:
        output = run(other, subject.jobs.first)
    finally:
        other.unload()
    require_same(subject.engine, output.pcm, subject.whole.pcm, "the first job of another instance")


def keeps_jobs_apart_that_run_in_turn(subject: Subject) -> None:
    """Two generators that are stepped in turn make the same audio as each does alone."""
    engine, jobs = subject.engine, (subject.jobs.first, subject.jobs.second)
    alone = run(engine, subject.jobs.second)
    results = [Output(engine.capabilities().channels) for _ in jobs]
    waiting = [
        (bounded(engine.generate([checked(engine, job)])), output) for job, output in zip(jobs, results, strict=True)
    ]
    while waiting:
        events, output = waiting.pop(0)
        for _, event in events:
            output.add(event)
            waiting.append((events, output))
            break
    require_same(engine, results[0].pcm, subject.whole.pcm, "the first job beside the second")
    require_same(engine, results[1].pcm, alone.pcm, "the second job beside the first")


def leaves_nothing_behind_when_it_is_closed(subject: Subject) -> None:
    """A generator that is closed after two blocks yields nothing more, and the next job is not changed by it."""
    engine = subject.engine
    events = engine.generate([checked(engine, subject.jobs.first)])
    # Equal jobs have equal samples; where a block ends is the engine's choice, or its network's.
    pcm = np.concatenate([next_block(events).pcm for _ in range(2)])
    require_same(engine, pcm, subject.whole.pcm[: len(pcm)], "two blocks of a job that is then closed")
    events.close()
    require(list(events) == [], "a generator goes on after it was closed")
    require_same(engine, run(engine, subject.jobs.first).pcm, subject.whole.pcm, "the first job, after one was closed")
