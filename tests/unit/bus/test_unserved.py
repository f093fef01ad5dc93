"""For how long no worker has served a model."""

from typing import Any

import msgspec
import pytest

from bus.fleet.fleet import Unserved
from bus.fleet.messages import Heartbeat


def beat(state: str = "ready", *models: str) -> Heartbeat:
    fields: dict[str, Any] = {"id": "w1", "boot": "b", "pid": 1, "host": "h", "cards": "", "slots": 1, "held": []}
    return msgspec.convert({**fields, "state": state, "models": list(models)}, Heartbeat)


def test_it_counts_from_the_last_heartbeat_that_names_the_model() -> None:
    unserved = Unserved()
    unserved.tick(5)
    assert unserved.seconds("tone") == 0, "a model that no worker knows is another matter"
    unserved.beat(beat("ready", "tone", "music"))
    unserved.tick(5)
    unserved.beat(beat("ready", "music"))
    unserved.tick(2)
    assert (unserved.seconds("tone"), unserved.seconds("music")) == (7, 2)


@pytest.mark.parametrize(("state", "serves"), [("starting", True), ("ready", True), ("draining", False)])
def test_a_worker_that_drains_serves_nothing(state: str, *, serves: bool) -> None:
    unserved = Unserved()
    unserved.beat(beat("ready", "tone"))
    unserved.tick(3)
    unserved.beat(beat(state, "tone"))
    assert unserved.seconds("tone") == (0 if serves else 3)


def test_time_without_a_connection_does_not_count() -> None:
    unserved = Unserved()
    unserved.beat(beat("ready", "tone"))
    unserved.tick(3)
    unserved.clear()
    unserved.tick(1)
    assert unserved.seconds("tone") == 1


def test_a_model_that_was_described_and_never_loaded_is_not_served() -> None:
    unserved = Unserved()
    unserved.describe(["tone", "music"])
    unserved.beat(beat("ready", "tone"))
    unserved.tick(4)
    unserved.describe(["tone", "music"])
    unserved.beat(beat("ready", "tone"))
    assert (unserved.seconds("tone"), unserved.seconds("music")) == (0, 4)
