"""What a task's fields become for an engine that has parameters of the same names."""

from typing import Any

import msgspec
import pytest

from bus.errors import Invalid, NotFound
from bus.fleet.messages import ModelCard
from gateway.dialects.acestep.request import Fields
from gateway.dialects.acestep.task import FORMATS, MAX_BATCH, new_task, task_of
from tests.support.stub_worker import CARD


def card(**kinds: str) -> ModelCard:
    """A model whose engine has these parameters."""
    schema = {"properties": {name: {"type": kind} for name, kind in kinds.items()}}
    return msgspec.structs.replace(CARD, name="acestep", kind="music", param_schema=schema)


def test_whatever_the_engine_has_is_handed_to_it_under_its_own_name() -> None:
    asked: dict[str, Any] = {
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
    assert Fields(asked).params(has) == {
        "lyrics": "la la",
        "inference_steps": 8,
        "timesteps": "0.9,0.5",
        "seconds": 20,
        "guidance_scale": 7.5,
        "key": "C major",
        "use_tiled_decode": False,
        "shift": 3,
    }
    assert Fields(asked).params(card()) == {"shift": 3}


def test_you_decide_is_said_in_many_ways() -> None:
    for value in (None, "", 0, -1, "-1"):
        assert Fields({"duration": value, "bpm": value}).params(card(seconds="number", bpm="number")) == {}


@pytest.mark.parametrize("value", [True, [], {}, "x", "inf", "NaN", "1e999"])
def test_a_number_that_is_none_is_refused_by_name(value: object) -> None:
    with pytest.raises(Invalid, match=r"^bpm: must be a number"):
        Fields({"bpm": value}).params(card(bpm="number"))


@pytest.mark.parametrize("nothing", [None, "", "null"])
def test_a_form_says_no_number_in_its_own_words(nothing: str | None) -> None:
    assert Fields({"audio_duration": nothing}).number("audio_duration") is None


def test_a_task_id_tells_its_jobs_and_their_format() -> None:
    for count in range(1, MAX_BATCH + 1):
        for codec in FORMATS:
            task = new_task(count, codec)
            assert task_of(task.id) == task
            assert (len(task.jobs), len({*task.jobs})) == (count, count)


@pytest.mark.parametrize(
    "wrong", ["", "x", "00000000-0000-8000-8000-0000000000f0", "00000000-0000-4000-8000-000000000000"]
)
def test_what_is_no_task_id_is_not_found(wrong: str) -> None:
    with pytest.raises(NotFound):
        task_of(wrong)
