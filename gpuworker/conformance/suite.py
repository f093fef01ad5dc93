"""All checks that an engine must pass, whatever model is behind it. They need no test framework."""

from collections.abc import Callable, Iterator
from functools import partial
from traceback import format_exception
from typing import Final, Literal, NamedTuple

from gpuworker.conformance import audio, batches, description, refusals, resuming
from gpuworker.conformance.rules import Broken, NotApplicable
from gpuworker.conformance.subject import Subject

_MAX_TRACEBACK_CHARS: Final = 4000


class Check(NamedTuple):
    """One rule of the protocol. `run` raises Broken, NotApplicable, or any exception of the engine."""

    name: str
    run: Callable[[Subject], None]


class Result(NamedTuple):
    """The outcome of one check; `detail` says what was broken, or why the rule does not apply."""

    check: Check
    outcome: Literal["passed", "failed", "not applicable", "not run"]
    detail: str = ""


def _check(run: Callable[[Subject], None]) -> Check:
    return Check(run.__name__, run)


#: Checks that need no audio.
_OF_WORDS: Final = (
    *map(
        _check,
        (
            description.is_an_engine_under_its_own_name,
            description.has_figures_within_their_limits,
            description.has_a_default_among_its_voices,
            description.can_name_its_requirements,
            description.has_constant_capabilities,
            description.has_a_closed_parameter_schema,
            description.has_defaults_that_its_schema_allows,
            refusals.refuses_an_unknown_voice,
            refusals.takes_a_text_of_the_greatest_length,
            refusals.fills_in_defaults_once,
        ),
    ),
)
#: The others; the first one is about the first job, and without it none of them can be made.
_OF_AUDIO: Final = (
    *map(
        _check,
        (
            audio.makes_audio_from_frame_0_and_one_done,
            audio.makes_no_more_than_its_bound,
            audio.begins_before_the_rest_is_made,
            audio.marks_words_and_sentences_in_order,
            audio.repeats_itself,
            audio.sounds_the_same_in_another_instance,
            audio.keeps_jobs_apart_that_run_in_turn,
            audio.leaves_nothing_behind_when_it_is_closed,
            resuming.resumes_without_a_checkpoint,
            resuming.begins_near_the_frame_it_resumes_at,
            batches.batches_only_what_it_declares,
            batches.sounds_the_same_in_a_batch,
            batches.drops_a_cancelled_job_of_a_batch,
            refusals.estimates_the_right_length,
            refusals.can_be_loaded_again,
        ),
    ),
    *(
        Check(f"resumes_at_{share:.0%}", partial(resuming.resumes_at, share))
        for share in (0.0, 0.01, 1 / 3, 0.5, 0.98, 1.0)
    ),
    *(
        Check(f"resumes_from_a_chain_of_{count}", partial(resuming.resumes_from_a_chain_of, count))
        for count in (1, 2, 200)
    ),
    *(
        Check(f"resumes_with_the_marks_at_{share:.0%}", partial(resuming.resumes_with_the_marks_at, share))
        for share in (0.0, 0.25, 0.5, 0.75)
    ),
)


CHECKS: Final = (*_OF_WORDS, *_OF_AUDIO)


def run(subject: Subject) -> Iterator[Result]:
    """Run all checks, and yield each result at once. Whatever an engine raises fails one check only.

    If the first job cannot be made, the checks of audio are not run.
    """
    for check in (*_OF_WORDS, _OF_AUDIO[0]):
        yield _result(check, subject)
    for check in _OF_AUDIO[1:]:
        if subject.has_whole:
            yield _result(check, subject)
        else:
            yield Result(check, "not run", "the first job cannot be made")


def _result(check: Check, subject: Subject) -> Result:
    try:
        check.run(subject)
    except NotApplicable as reason:
        return Result(check, "not applicable", str(reason))
    except Broken as error:
        return Result(check, "failed", str(error))
    except Exception as error:  # noqa: BLE001  # an engine is foreign code
        return Result(check, "failed", "".join(format_exception(error))[-_MAX_TRACEBACK_CHARS:].strip())
    return Result(check, "passed")
