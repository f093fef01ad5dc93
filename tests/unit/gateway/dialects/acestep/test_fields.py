"""A task's fields as params of an engine, and task ids."""

from typing import Any

import msgspec
import pytest

from bus.errors import Invalid, NotFound
from bus.fleet.messages import ModelCard
from gateway.dialects.acestep.fields import Fields
from gateway.dialects.acestep.task import FORMATS, MAX_BATCH, new_task, task_of
from tests.support.stub_worker import CARD


def card(**kinds: str) -> ModelCard:
    """A model whose engine has these parameters."""
    schema = {"properties": {name: {"type": kind} for name, kind in kinds.items()}}
    return msgspec.structs.replace(CARD, name="acestep", kind="music", param_schema=schema)


def test_fields_that_the_engine_has_become_its_params() -> None:
    fields: dict[str, Any] = {
        "lyrics": "la la",
        "inferenceSteps": "8",
        "timesteps": "0.9,0.5",
        "targetDuration": 20,
        "param_obj": '{"guidance_scale": "7.5", "lyrics": "no"}',
        "metas": {"keyscale": "C major", "use_tiled_decode": "no"},
        "params": {"shift": 3},
        "unknown": 1,
    }
    has = card(
        lyrics="string",
        inference_steps="integer",
        timesteps="string",
        seconds="number",
        guidance_scale="number",
        key="string",
        use_tiled_decode="boolean",
        shift="number",
    )
    assert Fields(fields).params(has) == {
        "lyrics": "la la",
        "inference_steps": 8,
        "timesteps": "0.9,0.5",
        "seconds": 20,
        "guidance_scale": 7.5,
        "key": "C major",
        "use_tiled_decode": False,
        "shift": 3,
    }
    assert Fields(fields).params(card()) == {"shift": 3}


def test_absent_empty_and_not_positive_values_leave_the_choice_to_the_engine() -> None:
    for value in (None, "", 0, -1, "-1"):
        assert Fields({"duration": value, "bpm": value}).params(card(seconds="number", bpm="number")) == {}


@pytest.mark.parametrize("value", [True, [], {}, "x", "inf", "NaN", "1e999"])
def test_a_value_that_is_not_a_number_is_refused_with_its_field(value: object) -> None:
    with pytest.raises(Invalid, match=r"^bpm: must be a number"):
        Fields({"bpm": value}).params(card(bpm="number"))


@pytest.mark.parametrize("nothing", [None, "", "null"])
def test_null_in_a_form_is_no_number(nothing: str | None) -> None:
    assert Fields({"audio_duration": nothing}).number("audio_duration") is None


def test_a_task_id_contains_its_jobs_and_their_format() -> None:
    for count in range(1, MAX_BATCH + 1):
        for codec in FORMATS:
            task = new_task(count, codec)
            assert task_of(task.id) == task
            assert (len(task.jobs), len({*task.jobs})) == (count, count)


@pytest.mark.parametrize(
    "wrong", ["", "x", "00000000-0000-8000-8000-0000000000f0", "00000000-0000-4000-8000-000000000000"]
)
def test_text_that_is_no_task_id_is_not_found(wrong: str) -> None:
    with pytest.raises(NotFound):
        task_of(wrong)
