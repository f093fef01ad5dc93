"""Each check of the conformance suite fails for an engine that breaks its rule, and for a sound one none does."""

import re
from dataclasses import replace
from itertools import repeat

import numpy as np
import pytest

from bus.bound import SecondsParam
from gpuworker.conformance import driving, suite
from gpuworker.conformance.subject import Subject
from gpuworker.engine import (
    Block,
    Checkpoint,
    Done,
    Mark,
    Pause,
    Requirement,
    Resume,
    Voice,
)
from tests.support.broken_engines import (
    JOBS,
    NUMBERS,
    Choosy,
    Crowded,
    Endless,
    Forgetful,
    Guessing,
    Keyless,
    Moody,
    OnceOnly,
    OneBlock,
    Sound,
    Stubborn,
    Trusting,
    Wavering,
    described,
    early,
    events,
    forgetting,
    marked,
    pcm,
)


def failed(kind: type[Sound]) -> dict[str, str]:
    """The checks that an engine fails, and their details."""
    subject = Subject("tone", kind, JOBS)
    try:
        return {result.check.name: result.detail for result in suite.run(subject) if result.outcome == "failed"}
    finally:
        subject.close()


@pytest.mark.parametrize(
    ("engine", "check", "detail"),
    [
        (described(name="other"), "is_an_engine_under_its_own_name", "name is 'other'"),
        (described(rate_hz=4_000), "has_figures_within_their_limits", "rate_hz is 4000"),
        (described(default_voice="bob", voices=(Voice("a", "A", "en"),)), "has_a_default_among_its_voices", "'bob'"),
        (described(requires=(Requirement("pip"),)), "can_name_its_requirements", "neither one module"),
        (Moody, "has_constant_capabilities", "another instance has other capabilities"),
        (described(param_schema={"type": "object", "properties": {}}), "has_a_closed_parameter_schema", "lacks"),
        (
            described(param_schema={"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}}),
            "has_defaults_that_its_schema_allows",
            "params.a",
        ),
        (pcm(lambda job, pcm: pcm * 0), "makes_audio_from_frame_0_and_one_done", "silent"),
        (pcm(lambda job, pcm: pcm * 3), "makes_audio_from_frame_0_and_one_done", "the limit is 1"),
        (pcm(lambda job, pcm: pcm * np.nan), "makes_audio_from_frame_0_and_one_done", "no finite number"),
        (pcm(lambda job, pcm: pcm[:, 0]), "makes_audio_from_frame_0_and_one_done", "shape"),
        (pcm(lambda job, pcm: pcm.astype(np.float64)), "makes_audio_from_frame_0_and_one_done", "float64"),
        (events(lambda job, event: [event, event]), "makes_audio_from_frame_0_and_one_done", "follows one that ends"),
        (
            events(lambda job, event: [] if isinstance(event, Done) else [event]),
            "makes_audio_from_frame_0_and_one_done",
            "without Done",
        ),
        (
            events(lambda job, event: [Checkpoint(7, b""), event] if isinstance(event, Done) else [event]),
            "makes_audio_from_frame_0_and_one_done",
            "a checkpoint is at frame 7",
        ),
        (described(bound=SecondsParam(param="none", default_s=0.2)), "makes_no_more_than_its_bound", "0.200 s"),
        (OneBlock, "begins_before_the_rest_is_made", "1 blocks, fewer than 3"),
        (marked(Mark(0, "word", 0, 90)), "marks_words_and_sentences_in_order", "not within the input"),
        (marked(Mark(0, "word", 0, 3), Mark(1, "word", 2, 2)), "marks_words_and_sentences_in_order", "begins before"),
        (marked(Mark(9_999_999, "word", 0, 3)), "marks_words_and_sentences_in_order", "not in its block"),
        (pcm(lambda job, pcm: pcm / next(NUMBERS)), "repeats_itself", "frames differ"),
        (Forgetful, "sounds_the_same_in_another_instance", "frames differ"),
        (Endless, "leaves_nothing_behind_when_it_is_closed", "goes on after it was closed"),
        (events(early), "resumes_without_a_checkpoint", "0 frames, not"),
        (OneBlock, "begins_near_the_frame_it_resumes_at", "it begins at 0"),
        (pcm(lambda job, pcm: pcm / job.attempt), "resumes_at_50%", "differ"),
        (events(forgetting), "resumes_from_a_chain_of_1", "frames differ"),
        (
            events(
                lambda job, event: (
                    [replace(event, marks=())] if isinstance(event, Block) and job.attempt > 1 else [event]
                )
            ),
            "resumes_with_the_marks_at_0%",
            "other marks",
        ),
        (Keyless, "batches_only_what_it_declares", "max_batch is 1"),
        (Crowded, "sounds_the_same_in_a_batch", "job 0 of the batch"),
        (Crowded, "keeps_jobs_apart_that_run_in_turn", "the first job beside the second"),
        (Stubborn, "drops_a_cancelled_job_of_a_batch", "cancelled"),
        (Trusting, "refuses_an_unknown_voice", "not refused"),
        (Choosy, "takes_a_text_of_the_greatest_length", "is long"),
        (Wavering, "fills_in_defaults_once", "changed when it is validated again"),
        (Guessing, "estimates_the_right_length", "estimated were 5.000"),
        (OnceOnly, "can_be_loaded_again", "unloaded twice"),
    ],
)
def test_an_engine_that_breaks_a_rule_fails_its_check(engine: type[Sound], check: str, detail: str) -> None:
    assert detail in failed(engine)[check]


def test_an_engine_that_only_pauses_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driving, "PATIENCE_S", 0.01)
    pausing = events(lambda job, event: repeat(Pause(0.0)))
    assert failed(pausing) == {"makes_audio_from_frame_0_and_one_done": "a job only paused for 0.01 s"}


def test_without_a_first_job_the_checks_of_audio_are_not_run() -> None:
    subject = Subject("tone", pcm(lambda job, pcm: pcm * 3), JOBS)
    outcomes = {result.check.name: result.outcome for result in suite.run(subject)}
    assert outcomes["makes_audio_from_frame_0_and_one_done"] == "failed"
    assert outcomes["repeats_itself"] == outcomes["can_be_loaded_again"] == "not run"
    assert outcomes["refuses_an_unknown_voice"] == "passed"
    assert set(outcomes) == {check.name for check in suite.CHECKS}


def test_a_sound_engine_fails_none() -> None:
    assert failed(Sound) == {}


def test_an_engine_whose_seam_can_be_heard_is_not_tested_for_none() -> None:
    subject = Subject("tone", described(resume=Resume.RESTART), JOBS)
    outcomes = {result.check.name: result.outcome for result in suite.run(subject)}
    assert outcomes["resumes_at_50%"] == "not applicable"


def test_every_check_has_an_engine_that_fails_it() -> None:
    """Those at several frames stand for each other."""
    (mark,) = [
        mark for mark in test_an_engine_that_breaks_a_rule_fails_its_check.pytestmark if mark.name == "parametrize"
    ]
    broken = {re.split(r"_at_|_of_\d", case[1])[0] for case in mark.args[1]}
    checks = {re.split(r"_at_|_of_\d", check.name)[0] for check in suite.CHECKS}
    assert checks == broken
