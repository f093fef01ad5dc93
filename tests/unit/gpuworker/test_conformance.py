"""Each check of the conformance suite fails for an engine that breaks its rule, and for a sound one none does."""

from collections.abc import Generator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, ClassVar

import numpy as np
import pytest

from bus.bound import SecondsParam
from gpuworker.conformance import suite
from gpuworker.conformance.subject import Jobs, Subject
from gpuworker.engine import (
    Block,
    Capabilities,
    Checkpoint,
    Done,
    EngineJob,
    Estimate,
    Event,
    Mark,
    MemoryPolicy,
    Rejected,
    Requirement,
    Resume,
    Voice,
)
from gpuworker.engines.tone import Tone

Events = Generator[tuple[int, Event], None, None]
PARAMS = {"seconds": 2.6, "block_ms": 100}
JOBS = Jobs(
    EngineJob(id="first", input="one two", params=PARAMS),
    EngineJob(id="second", input="three", params={**PARAMS, "seconds": 0.3}),
    {"max_batch": 4},
)


class Sound(Tone):
    """Tone with a mark for its first word; `changed` are fields of its capabilities."""

    changed: ClassVar[dict[str, Any]] = {}

    def capabilities(self) -> Capabilities:
        return replace(super().capabilities(), **self.changed)

    def generate(self, jobs: Sequence[EngineJob]) -> Events:
        for index, event in super().generate(jobs):
            is_first = isinstance(event, Block) and event.first_frame == 0
            yield index, Block(0, event.pcm, (Mark(0, "word", 0, 3),)) if is_first else event  # type: ignore[union-attr]


def described(**changed: Any) -> type[Sound]:
    return type("Described", (Sound,), {"changed": changed})


def events(change: Any) -> type[Sound]:
    """An engine whose events go through `change(job, event)`, which gives those that come instead."""

    class Changed(Sound):
        def generate(self, jobs: Sequence[EngineJob]) -> Events:
            for index, event in super().generate(jobs):
                yield from ((index, each) for each in change(jobs[index], event))

    return Changed


def pcm(change: Any) -> type[Sound]:
    """An engine whose samples go through `change(job, pcm)`."""

    def changed(job: EngineJob, event: Event) -> list[Event]:
        return [replace(event, pcm=change(job, event.pcm))] if isinstance(event, Block) else [event]

    return events(changed)


def marked(*marks: Mark) -> type[Sound]:
    def changed(job: EngineJob, event: Event) -> list[Event]:
        is_first = isinstance(event, Block) and event.first_frame == 0
        return [replace(event, marks=marks) if is_first else event]  # type: ignore[type-var]

    return events(changed)


NUMBERS = count(1)


class Forgetful(Sound):
    """Each instance sounds in another way."""

    def __init__(self) -> None:
        super().__init__()
        self._share = np.float32(1 / next(NUMBERS))

    def generate(self, jobs: Sequence[EngineJob]) -> Events:
        for index, event in super().generate(jobs):
            yield index, replace(event, pcm=event.pcm * self._share) if isinstance(event, Block) else event


class Moody(Sound):
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities(), version=f"v{next(NUMBERS)}")


class Trusting(Sound):
    """Takes every voice and has one."""

    changed: ClassVar = {"voices": (Voice("anna", "Anna", "en"),), "default_voice": "anna"}


class Guessing(Sound):
    def estimate(self, job: EngineJob, batch: int = 1) -> Estimate:
        return replace(super().estimate(job, batch), seconds=5.0)


class Wavering(Sound):
    def validate(self, job: EngineJob) -> EngineJob:
        return replace(super().validate(job), seed=job.seed + 1)


class Choosy(Sound):
    def validate(self, job: EngineJob) -> EngineJob:
        if len(job.input) > 100:
            raise Rejected("input", "is long")
        return super().validate(job)


class OnceOnly(Sound):
    def unload(self) -> None:
        if getattr(self, "is_gone", False):
            raise RuntimeError("unloaded twice")
        self.is_gone = True

    def load(self, device: str, policy: MemoryPolicy) -> None:
        super().load(device, policy)
        self.is_gone = False


class Keyless(Sound):
    changed: ClassVar = {"max_batch": 1}


class Crowded(Sound):
    """Sounds softer while more jobs run."""

    num_jobs = 0

    def generate(self, jobs: Sequence[EngineJob]) -> Events:
        self.num_jobs += len(jobs)
        for index, event in super().generate(jobs):
            yield index, replace(event, pcm=event.pcm / self.num_jobs) if isinstance(event, Block) else event
        self.num_jobs -= len(jobs)


class Stubborn(Sound):
    """Does not look at `cancel`."""

    def generate(self, jobs: Sequence[EngineJob]) -> Events:
        yield from super().generate([replace(job, cancel=type(job.cancel)()) for job in jobs])


class Endless(Sound):
    """Goes on when it is closed."""

    def generate(self, jobs: Sequence[EngineJob]) -> Any:
        return _Unclosed(super().generate(jobs))


class _Unclosed:
    def __init__(self, inner: Events) -> None:
        self._inner = inner

    def __iter__(self) -> "_Unclosed":
        return self

    def __next__(self) -> tuple[int, Event]:
        return next(self._inner)

    def close(self) -> None:
        """Nothing."""


class OneBlock(Sound):
    def generate(self, jobs: Sequence[EngineJob]) -> Events:
        for index, job in enumerate(jobs):
            made = [event.pcm for _, event in Sound.generate(Sound(), [job]) if isinstance(event, Block)]
            yield index, Block(0, np.concatenate(made))
            yield index, Done()


def failed(kind: type[Sound]) -> dict[str, str]:
    """The checks that an engine fails, and their details."""
    subject = Subject("tone", kind, JOBS)
    try:
        return {result.check.name: result.detail for result in suite.run(subject) if result.outcome == "failed"}
    finally:
        subject.close()


def early(job: EngineJob, event: Event) -> list[Event]:
    """Ignores where a job is to be resumed: says that the audio behind is the beginning."""
    return [replace(event, first_frame=event.first_frame - job.start_frame)] if isinstance(event, Block) else [event]


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
    broken = {case[1].partition("_at_")[0] for case in mark.args[1]}
    checks = {check.name.partition("_at_")[0] for check in suite.CHECKS}
    assert checks == broken
