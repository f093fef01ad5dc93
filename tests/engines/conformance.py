"""Tests that every engine must pass, whatever model is behind it.

The test of an engine derives a class from `EngineConformance`; the engine is found by its entry point. A feature that
an engine declares to lack is tested to be absent.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import jsonschema
import msgspec
import numpy as np
import pytest

from gpuworker import registry
from gpuworker.engine import Block, Cancel, Determinism, Done, Engine, EngineJob, MemoryPolicy, Pcm, Rejected, Resume
from tests.engines.driving import Output, checked, next_block, resumed, run, run_together, schema_errors

TOLERANCE = 1e-3


def assert_same(engine: Engine, one: Pcm, other: Pcm) -> None:
    """Equal as far as the engine's determinism promises."""
    assert one.shape == other.shape
    if engine.capabilities().determinism in {Determinism.BITWISE, Determinism.SAME_BUILD}:
        assert one.tobytes() == other.tobytes()
    elif engine.capabilities().determinism is Determinism.TOLERANCE:
        assert np.abs(one - other).max(initial=0) <= TOLERANCE


def with_params(job: EngineJob, params: Mapping[str, Any]) -> EngineJob:
    """`job` with further params."""
    return replace(job, params={**job.params, **params})


class EngineConformance:
    """The tests. A derived class, called `Test…`, names the engine and its jobs."""

    #: Name of the entry point.
    name: ClassVar[str]
    #: Two different jobs; the first makes at least three blocks.
    first: ClassVar[EngineJob]
    second: ClassVar[EngineJob]
    #: The params that let a job share a forward, for an engine that batches.
    batchable: ClassVar[Mapping[str, Any]] = {}
    #: The engine's options.
    options: ClassVar[Mapping[str, object]] = {}

    @classmethod
    def make(cls) -> Engine:
        """A new engine, not loaded."""
        return registry.make(cls.name, cls.options)

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls) -> Iterator[Engine]:
        """The engine, loaded once for all tests."""
        engine = cls.make()
        engine.load("cpu", MemoryPolicy())
        yield engine
        engine.unload()

    @pytest.fixture(scope="class")
    @classmethod
    def whole(cls, engine: Engine) -> Output:
        """The first job, uninterrupted."""
        return run(engine, cls.first)

    def test_it_is_an_engine_under_its_own_name_before_the_model_is_loaded(self) -> None:
        engine = self.make()
        assert isinstance(engine, Engine)
        capabilities = engine.capabilities()
        assert capabilities.name == self.name
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", capabilities.version)
        assert 8_000 <= capabilities.rate_hz <= 192_000
        assert capabilities.channels in {1, 2}
        assert capabilities.max_input_chars >= 1
        assert capabilities.max_batch >= 1
        assert capabilities.licence
        voices = [voice.id for voice in capabilities.voices]
        assert len(set(voices)) == len(voices)
        assert (capabilities.default_voice in voices) == bool(voices)

    def test_it_can_be_described_without_options(self) -> None:
        for required in registry.make(self.name).capabilities().requires:
            for each in (required, *required.otherwise):
                assert bool(each.module) != bool(each.library)
                assert each.install

    def test_capabilities_are_json_and_do_not_change(self, engine: Engine) -> None:
        encoded = msgspec.json.encode(engine.capabilities())
        assert json.loads(encoded)["name"] == self.name
        assert encoded == msgspec.json.encode(self.make().capabilities())

    def test_the_parameter_schema_is_valid_and_closed(self, engine: Engine) -> None:
        schema = engine.capabilities().param_schema
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object"
        assert schema["additionalProperties"] is False
        assert schema_errors(engine, replace(self.first, params={"no_such_thing": 1}))

    def test_every_default_in_the_schema_is_allowed_by_it(self, engine: Engine) -> None:
        for name, rule in engine.capabilities().param_schema["properties"].items():
            if "default" in rule:
                assert list(jsonschema.Draft202012Validator(rule).iter_errors(rule["default"])) == [], name

    def test_a_job_is_audio_from_frame_nought_and_one_done(self, engine: Engine, whole: Output) -> None:
        assert whole.blocks[0].first_frame == 0
        assert whole.end_frame > engine.capabilities().rate_hz // 2
        assert np.abs(whole.pcm).max() > 0.01
        assert whole.done is not None
        json.dumps(dict(whole.done.facts))

    def test_marks_are_in_order_within_their_block_and_within_the_input(self, engine: Engine, whole: Output) -> None:
        for job, output in ((self.first, whole), (self.second, run(engine, self.second))):
            for block in output.blocks:
                assert all(block.first_frame <= mark.frame < block.first_frame + len(block.pcm) for mark in block.marks)
            frames = [mark.frame for mark in output.marks]
            assert frames == sorted(frames)
            assert all(mark.start >= 0 < mark.length for mark in output.marks)
            assert all(mark.start + mark.length <= len(job.input) for mark in output.marks)
            for kind in ("word", "sentence"):
                of_kind = [mark for mark in output.marks if mark.kind == kind]
                ends = [mark.start + mark.length for mark in of_kind]
                assert all(mark.start >= end for mark, end in zip(of_kind[1:], ends, strict=False)), (
                    f"no {kind} over another"
                )
            assert {mark.kind for mark in output.marks} <= {"word", "sentence"}

    @pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75])
    def test_a_resumed_job_has_the_marks_of_the_whole_one(self, engine: Engine, whole: Output, share: float) -> None:
        if not whole.marks or engine.capabilities().resume is Resume.RESTART:
            return
        nearby = whole.marks[int(share * len(whole.marks))].frame
        for frame in (nearby, nearby + 1):
            rest = resumed(engine, self.first, frame, whole)
            assert [mark for mark in rest.marks if mark.frame >= frame] == [m for m in whole.marks if m.frame >= frame]

    def test_the_first_block_comes_before_the_rest_is_made(self, engine: Engine, whole: Output) -> None:
        assert len(whole.blocks) >= 3
        assert len(whole.blocks[0].pcm) <= engine.capabilities().rate_hz

    def test_equal_jobs_sound_equal(self, engine: Engine, whole: Output) -> None:
        run(engine, self.second)
        assert_same(engine, run(engine, self.first).pcm, whole.pcm)

    def test_another_instance_of_the_engine_makes_the_same_audio(self, engine: Engine, whole: Output) -> None:
        other = self.make()
        other.load("cpu", MemoryPolicy())
        try:
            assert_same(engine, run(other, self.first).pcm, whole.pcm)
        finally:
            other.unload()

    @pytest.mark.parametrize("share", [0.0, 0.01, 1 / 3, 0.5, 0.98, 1.0])
    def test_a_resumed_job_is_the_rest_of_the_whole_one(self, engine: Engine, whole: Output, share: float) -> None:
        if engine.capabilities().resume is Resume.RESTART:
            return  # its seam is audible, and declared to be
        frame = int(share * whole.end_frame) + (1 if 0 < share < 1 else 0)
        rest = resumed(engine, self.first, frame, whole)
        if rest.blocks:
            assert rest.blocks[0].first_frame <= frame
        assert_same(engine, rest.from_frame(frame), whole.pcm[frame:])

    def test_a_job_resumes_without_any_checkpoint_too(self, engine: Engine, whole: Output) -> None:
        if engine.capabilities().resume is Resume.RESTART:
            return
        frame = whole.end_frame // 2
        rest = run(engine, replace(self.first, start_frame=frame, attempt=2))
        assert_same(engine, rest.from_frame(frame), whole.pcm[frame:])

    def test_random_access_does_not_make_the_beginning_again(self, engine: Engine, whole: Output) -> None:
        frame = whole.end_frame // 2
        events = engine.generate([checked(engine, replace(self.first, start_frame=frame))])
        first = next_block(events)
        events.close()
        if engine.capabilities().resume is Resume.RANDOM_ACCESS:
            assert frame - engine.capabilities().rate_hz <= first.first_frame <= frame
        else:
            assert first.first_frame <= frame

    def test_two_jobs_in_turn_do_not_disturb_each_other(self, engine: Engine, whole: Output) -> None:
        alone = run(engine, self.second)
        results = [Output(engine.capabilities().channels) for _ in range(2)]
        streams = [engine.generate([checked(engine, job)]) for job in (self.first, self.second)]
        waiting = list(zip(streams, results, strict=True))
        while waiting:
            events, output = waiting.pop(0)
            for _, event in events:
                output.add(event)
                waiting.append((events, output))
                break
        assert_same(engine, results[0].pcm, whole.pcm)
        assert_same(engine, results[1].pcm, alone.pcm)

    def test_jobs_of_one_batch_sound_as_they_do_alone(self, engine: Engine) -> None:
        first, second = with_params(self.first, self.batchable), with_params(self.second, self.batchable)
        keys = {engine.batch_key(checked(engine, job)) for job in (first, second)}
        if engine.capabilities().max_batch == 1:
            assert keys == {None}
            return
        assert len(keys) == 1
        assert keys != {None}
        together = run_together(engine, [first, second, first])
        for job, output in zip((first, second, first), together, strict=True):
            assert output.done is not None
            assert_same(engine, output.pcm, run(engine, job).pcm)

    def test_a_cancelled_job_of_a_batch_leaves_it_and_the_others_go_on(self, engine: Engine) -> None:
        if engine.capabilities().max_batch == 1:
            return
        jobs = [with_params(replace(job, cancel=Cancel()), self.batchable) for job in (self.second, self.first)]
        first, second = (checked(engine, job) for job in jobs)
        results = [Output(engine.capabilities().channels) for _ in range(2)]
        for index, event in engine.generate([first, second]):
            results[index].add(event)
            first.cancel.cancelled = True
        assert results[0].done is None
        assert len(results[0].blocks) <= 1
        assert_same(engine, results[1].pcm, run(engine, self.first).pcm)

    def test_a_job_left_after_two_blocks_leaves_nothing_behind(self, engine: Engine, whole: Output) -> None:
        events = engine.generate([checked(engine, self.first)])
        for expected in whole.blocks[:2]:
            assert next_block(events).pcm.tobytes() == expected.pcm.tobytes()
        events.close()
        assert list(events) == []
        assert_same(engine, run(engine, self.first).pcm, whole.pcm)

    def test_an_unknown_voice_is_refused(self, engine: Engine) -> None:
        with pytest.raises(Rejected, match="zz-nosuch") as refusal:
            engine.validate(replace(self.first, voice="zz-nosuch"))
        assert refusal.value.path == "voice"

    @pytest.mark.parametrize("length", ["none", "too long"])
    def test_input_of_a_wrong_length_is_refused(self, engine: Engine, length: str) -> None:
        limit = engine.capabilities().max_input_chars
        with pytest.raises(Rejected, match="input" if length == "none" else str(limit)) as refusal:
            engine.validate(replace(self.first, input="" if length == "none" else "a" * (limit + 1)))
        assert refusal.value.path == "input"

    def test_input_of_the_greatest_length_is_taken(self, engine: Engine) -> None:
        text = "a " * (engine.capabilities().max_input_chars // 2)
        assert engine.validate(replace(self.first, input=text)).input

    def test_the_defaults_are_filled_in_once(self, engine: Engine) -> None:
        validated = checked(engine, replace(self.first, params={}))
        assert schema_errors(engine, validated) == []
        assert engine.validate(validated) == validated

    def test_the_estimate_is_of_the_right_kind(self, engine: Engine, whole: Output) -> None:
        estimate = engine.estimate(checked(engine, self.first))
        assert estimate.device_bytes >= 0
        assert math.isfinite(estimate.cost_s)
        assert estimate.cost_s >= 0
        if estimate.seconds is not None:
            assert estimate.seconds == pytest.approx(whole.end_frame / engine.capabilities().rate_hz, abs=0.01)
        assert engine.estimate(checked(engine, self.first), batch=2).device_bytes >= estimate.device_bytes

    def test_an_engine_can_be_loaded_twice_unloaded_twice_and_loaded_again(self, engine: Engine) -> None:
        other = self.make()
        other.load("cpu", MemoryPolicy())
        other.load("cpu", MemoryPolicy())
        other.warm_up()
        other.unload()
        other.unload()
        other.load("cpu", MemoryPolicy())
        try:
            kinds = {type(event) for _, event in other.generate([checked(other, self.second)])}
            assert kinds >= {Block, Done}
        finally:
            other.unload()
