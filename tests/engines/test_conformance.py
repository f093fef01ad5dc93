"""What every engine must do, whatever model is behind it. What an engine lacks it declares, and that is tested too."""

import dataclasses
import json
import math
import re
from dataclasses import replace

import jsonschema
import numpy as np
import pytest

from gpuworker.engine import Block, Cancel, Determinism, Done, Engine, MemoryPolicy, Pcm, Rejected, Resume
from tests.engines.cases import CASES, Case, make, shipped, with_params
from tests.engines.driving import Heard, checked, next_block, resumed, run, run_together, schema_errors

TOLERANCE = 1e-3


def assert_same(engine: Engine, one: Pcm, other: Pcm) -> None:
    """Equal as far as the engine's determinism promises."""
    assert one.shape == other.shape
    if engine.capabilities().determinism in {Determinism.BITWISE, Determinism.SAME_BUILD}:
        assert one.tobytes() == other.tobytes()
    elif engine.capabilities().determinism is Determinism.TOLERANCE:
        assert np.abs(one - other).max(initial=0) <= TOLERANCE


@pytest.fixture(scope="module")
def whole(engine: Engine) -> Heard:
    """The first job of the engine's case, uninterrupted."""
    return run(engine, CASES[engine.capabilities().name].first)


def test_every_shipped_engine_is_in_this_suite() -> None:
    assert set(shipped()) == set(CASES)


def test_an_engine_is_known_by_its_entry_points_name(engine: Engine) -> None:
    assert isinstance(engine, Engine)
    assert engine.capabilities().name in shipped()


@pytest.mark.parametrize("name", sorted(shipped()))
def test_capabilities_are_complete_before_the_model_is_loaded(name: str) -> None:
    capabilities = make(name).capabilities()
    assert capabilities.name == name
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", capabilities.version)
    assert 8_000 <= capabilities.rate_hz <= 192_000
    assert capabilities.channels in {1, 2}
    assert capabilities.max_input_chars >= 1
    assert capabilities.max_batch >= 1
    assert capabilities.licence
    voices = [voice.id for voice in capabilities.voices]
    assert len(set(voices)) == len(voices)
    assert (capabilities.default_voice in voices) == bool(voices)


def test_capabilities_can_be_told_as_json_and_do_not_change(engine: Engine) -> None:
    told = json.dumps(dataclasses.asdict(engine.capabilities()))
    assert json.loads(told)["name"] == engine.capabilities().name
    assert told == json.dumps(dataclasses.asdict(make(engine.capabilities().name).capabilities()))


def test_the_parameter_schema_is_valid_and_closed(engine: Engine) -> None:
    schema = engine.capabilities().param_schema
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert schema_errors(engine, replace(CASES[engine.capabilities().name].first, params={"no_such_thing": 1}))


def test_every_default_in_the_schema_is_allowed_by_it(engine: Engine) -> None:
    for name, rule in engine.capabilities().param_schema["properties"].items():
        if "default" in rule:
            assert list(jsonschema.Draft202012Validator(rule).iter_errors(rule["default"])) == [], name


def test_a_job_is_audio_from_frame_nought_and_one_done(engine: Engine, whole: Heard) -> None:
    assert whole.blocks[0].first_frame == 0
    assert whole.end_frame > engine.capabilities().rate_hz // 2
    assert np.abs(whole.pcm).max() > 0.01
    assert whole.done is not None
    json.dumps(dict(whole.done.facts))


def test_marks_are_in_order_within_their_block_and_within_the_input(engine: Engine, case: Case, whole: Heard) -> None:
    for job, heard in ((case.first, whole), (case.second, run(engine, case.second))):
        for block in heard.blocks:
            assert all(block.first_frame <= mark.frame < block.first_frame + len(block.pcm) for mark in block.marks)
        frames = [mark.frame for mark in heard.marks]
        assert frames == sorted(frames)
        assert all(mark.start >= 0 < mark.length for mark in heard.marks)
        assert all(mark.start + mark.length <= len(job.input) for mark in heard.marks)
        for kind in ("word", "sentence"):
            of_kind = [mark for mark in heard.marks if mark.kind == kind]
            ends = [mark.start + mark.length for mark in of_kind]
            assert all(mark.start >= end for mark, end in zip(of_kind[1:], ends, strict=False)), (
                f"no {kind} over another"
            )
        assert {mark.kind for mark in heard.marks} <= {"word", "sentence"}


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75])
def test_a_resumed_job_has_the_marks_of_the_whole_one(engine: Engine, case: Case, whole: Heard, share: float) -> None:
    if not whole.marks:
        return
    nearby = whole.marks[int(share * len(whole.marks))].frame
    for frame in (nearby, nearby + 1):
        rest = resumed(engine, case.first, frame, whole)
        assert [mark for mark in rest.marks if mark.frame >= frame] == [m for m in whole.marks if m.frame >= frame]


def test_the_first_block_comes_before_the_rest_is_made(engine: Engine, whole: Heard) -> None:
    assert len(whole.blocks) >= 3
    assert len(whole.blocks[0].pcm) <= engine.capabilities().rate_hz


def test_equal_jobs_sound_equal(engine: Engine, case: Case, whole: Heard) -> None:
    run(engine, case.second)
    assert_same(engine, run(engine, case.first).pcm, whole.pcm)


def test_another_instance_of_the_engine_makes_the_same_audio(engine: Engine, case: Case, whole: Heard) -> None:
    other = make(engine.capabilities().name)
    other.load("cpu", MemoryPolicy())
    try:
        assert_same(engine, run(other, case.first).pcm, whole.pcm)
    finally:
        other.unload()


@pytest.mark.parametrize("share", [0.0, 0.01, 1 / 3, 0.5, 0.98, 1.0])
def test_a_resumed_job_is_the_rest_of_the_whole_one(engine: Engine, case: Case, whole: Heard, share: float) -> None:
    if engine.capabilities().resume is Resume.RESTART:
        pytest.fail("no shipped engine restarts: say here what its seam must be")
    frame = int(share * whole.end_frame) + (1 if 0 < share < 1 else 0)
    rest = resumed(engine, case.first, frame, whole)
    if rest.blocks:
        assert rest.blocks[0].first_frame <= frame
    assert_same(engine, rest.from_frame(frame), whole.pcm[frame:])


def test_a_job_resumes_without_any_checkpoint_too(engine: Engine, case: Case, whole: Heard) -> None:
    frame = whole.end_frame // 2
    rest = run(engine, replace(case.first, start_frame=frame, attempt=2))
    assert_same(engine, rest.from_frame(frame), whole.pcm[frame:])


def test_random_access_does_not_make_the_beginning_again(engine: Engine, case: Case, whole: Heard) -> None:
    frame = whole.end_frame // 2
    events = engine.generate([checked(engine, replace(case.first, start_frame=frame))])
    first = next_block(events)
    events.close()
    if engine.capabilities().resume is Resume.RANDOM_ACCESS:
        assert frame - engine.capabilities().rate_hz <= first.first_frame <= frame
    else:
        assert first.first_frame <= frame


def test_two_jobs_in_turn_do_not_hear_of_each_other(engine: Engine, case: Case, whole: Heard) -> None:
    alone = run(engine, case.second)
    results = [Heard(engine.capabilities().channels) for _ in range(2)]
    streams = [engine.generate([checked(engine, job)]) for job in (case.first, case.second)]
    waiting = list(zip(streams, results, strict=True))
    while waiting:
        events, heard = waiting.pop(0)
        for _, event in events:
            heard.add(event)
            waiting.append((events, heard))
            break
    assert_same(engine, results[0].pcm, whole.pcm)
    assert_same(engine, results[1].pcm, alone.pcm)


def test_jobs_of_one_batch_sound_as_they_do_alone(engine: Engine, case: Case) -> None:
    first, second = with_params(case.first, case.batchable), with_params(case.second, case.batchable)
    keys = {engine.batch_key(checked(engine, job)) for job in (first, second)}
    if engine.capabilities().max_batch == 1:
        assert keys == {None}
        return
    assert len(keys) == 1
    assert keys != {None}
    together = run_together(engine, [first, second, first])
    for job, heard in zip((first, second, first), together, strict=True):
        assert heard.done is not None
        assert_same(engine, heard.pcm, run(engine, job).pcm)


def test_a_cancelled_job_of_a_batch_leaves_it_and_the_others_go_on(engine: Engine, case: Case) -> None:
    if engine.capabilities().max_batch == 1:
        return
    jobs = [with_params(replace(job, cancel=Cancel()), case.batchable) for job in (case.second, case.first)]
    first, second = (checked(engine, job) for job in jobs)
    results = [Heard(engine.capabilities().channels) for _ in range(2)]
    for index, event in engine.generate([first, second]):
        results[index].add(event)
        first.cancel.cancelled = True
    assert results[0].done is None
    assert len(results[0].blocks) <= 1
    assert_same(engine, results[1].pcm, run(engine, case.first).pcm)


def test_a_job_left_after_two_blocks_leaves_nothing_behind(engine: Engine, case: Case, whole: Heard) -> None:
    events = engine.generate([checked(engine, case.first)])
    for expected in whole.blocks[:2]:
        assert next_block(events).pcm.tobytes() == expected.pcm.tobytes()
    events.close()
    assert list(events) == []
    assert_same(engine, run(engine, case.first).pcm, whole.pcm)


def test_an_unknown_voice_is_refused(engine: Engine, case: Case) -> None:
    with pytest.raises(Rejected, match="no-such-voice") as refusal:
        engine.validate(replace(case.first, voice="no-such-voice"))
    assert refusal.value.path == "voice"


@pytest.mark.parametrize("length", ["none", "too long"])
def test_input_of_a_wrong_length_is_refused(engine: Engine, case: Case, length: str) -> None:
    limit = engine.capabilities().max_input_chars
    with pytest.raises(Rejected, match="input" if length == "none" else str(limit)) as refusal:
        engine.validate(replace(case.first, input="" if length == "none" else "a" * (limit + 1)))
    assert refusal.value.path == "input"


def test_input_of_the_greatest_length_is_taken(engine: Engine, case: Case) -> None:
    text = "a " * (engine.capabilities().max_input_chars // 2)
    assert engine.validate(replace(case.first, input=text)).input


def test_the_defaults_are_filled_in_once(engine: Engine, case: Case) -> None:
    validated = checked(engine, replace(case.first, params={}))
    assert schema_errors(engine, validated) == []
    assert engine.validate(validated) == validated


def test_the_estimate_is_of_the_right_kind(engine: Engine, case: Case, whole: Heard) -> None:
    estimate = engine.estimate(checked(engine, case.first))
    assert estimate.device_bytes >= 0
    assert math.isfinite(estimate.cost_s)
    assert estimate.cost_s >= 0
    if estimate.seconds is not None:
        assert estimate.seconds == pytest.approx(whole.end_frame / engine.capabilities().rate_hz, abs=0.01)
    assert engine.estimate(checked(engine, case.first), batch=2).device_bytes >= estimate.device_bytes


def test_an_engine_can_be_loaded_twice_unloaded_twice_and_loaded_again(engine: Engine, case: Case) -> None:
    other = make(engine.capabilities().name)
    other.load("cpu", MemoryPolicy())
    other.load("cpu", MemoryPolicy())
    other.warm_up()
    other.unload()
    other.unload()
    other.load("cpu", MemoryPolicy())
    try:
        kinds = {type(event) for _, event in other.generate([checked(other, case.second)])}
        assert kinds >= {Block, Done}
    finally:
        other.unload()
