"""For how long no worker has served a model."""

from typing import Any

import msgspec
import pytest

from bus.fleet.messages import Heartbeat, ModelCard
from bus.fleet.offers import Unserved


def beat(state: str = "ready", *models: str) -> Heartbeat:
    fields: dict[str, Any] = {"id": "w1", "boot": "b", "pid": 1, "host": "h", "cards": "", "slots": 1, "held": []}
    return msgspec.convert({**fields, "state": state, "models": list(models)}, Heartbeat)


def card(model: str, version: str = "v1") -> ModelCard:
    fields: dict[str, Any] = {"kind": "tone", "rate_hz": 24_000, "channels": 1, "resume": "replay"}
    return ModelCard(name=model, version=version, determinism="none", param_schema={}, max_input_chars=10, **fields)


CARDS = [card("tone"), card("music")]


def test_it_counts_from_the_last_heartbeat_that_names_the_model() -> None:
    unserved = Unserved()
    unserved.tick(5)
    assert unserved.seconds("tone", "v1") == 0, "a model that no worker knows is another matter"
    unserved.beat(beat("ready", "tone", "music"), CARDS)
    unserved.tick(5)
    unserved.beat(beat("ready", "music"), CARDS)
    unserved.tick(2)
    assert (unserved.seconds("tone", "v1"), unserved.seconds("music", "v1")) == (7, 2)


@pytest.mark.parametrize(("state", "serves"), [("starting", True), ("ready", True), ("draining", False)])
def test_a_worker_that_drains_serves_nothing(state: str, *, serves: bool) -> None:
    unserved = Unserved()
    unserved.beat(beat("ready", "tone"), CARDS)
    unserved.tick(3)
    unserved.beat(beat(state, "tone"), CARDS)
    assert unserved.seconds("tone", "v1") == (0 if serves else 3)


def test_time_without_a_connection_does_not_count() -> None:
    unserved = Unserved()
    unserved.beat(beat("ready", "tone"), CARDS)
    unserved.tick(3)
    unserved.clear()
    unserved.tick(1)
    assert unserved.seconds("tone", "v1") == 1


def test_a_model_that_was_described_and_never_loaded_is_not_served() -> None:
    unserved = Unserved()
    unserved.describe(CARDS)
    unserved.beat(beat("ready", "tone"), CARDS)
    unserved.tick(4)
    unserved.describe(CARDS)
    unserved.beat(beat("ready", "tone"), CARDS)
    assert (unserved.seconds("tone", "v1"), unserved.seconds("music", "v1")) == (0, 4)


def test_each_version_counts_by_itself() -> None:
    unserved = Unserved()
    unserved.beat(beat("ready", "tone"), [card("tone", "v1")])
    unserved.beat(beat("ready", "tone"), [card("tone", "v2")])
    unserved.tick(3)
    unserved.beat(beat("ready", "tone"), [card("tone", "v2")])
    assert (unserved.seconds("tone", "v1"), unserved.seconds("tone", "v2")) == (3, 0)
