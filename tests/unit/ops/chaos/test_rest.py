"""When a stack is at rest, and what of it counts as leaked."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from ops.chaos import leaks, run
from ops.chaos.leaks import Rest
from ops.chaos.run import Ground, leaks_since, steady
from ops.errors import OpsError

REST = Rest({}, subscriptions=39, connections=6, consumers=10, unacknowledged=0, queued=0)
LESS, MORE = replace(REST, subscriptions=38), replace(REST, subscriptions=40)
#: Nobody has to be waited for.
GROUND = cast(Ground, SimpleNamespace(stack=SimpleNamespace(workers=[])))


class Looks:
    """What each look finds; the last one again and again."""

    def __init__(self, *found: Rest | Exception) -> None:
        self._found: Sequence[Rest | Exception] = found
        self.num = 0

    async def __call__(self, stack: object = None) -> Rest:
        found = self._found[min(self.num, len(self._found) - 1)]
        self.num += 1
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_STEADY_EVERY_S", 0.0)


@pytest.mark.parametrize(
    ("found", "num"),
    [
        ((REST,), 3),
        ((LESS, REST), 4),
        ((REST, REST, LESS, REST), 6),
        ((OpsError("nats is down"), REST), 4),
        ((REST, TimeoutError(), REST), 4),
    ],
)
async def test_a_stack_is_at_rest_when_three_looks_in_a_row_are_alike(
    found: Sequence[Rest | Exception], num: int
) -> None:
    looks = Looks(*found)
    assert await steady(looks) == REST
    assert looks.num == num


async def test_a_stack_that_never_rests_is_taken_as_it_is_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_STEADY_S", -1.0)
    assert await steady(Looks(LESS)) == LESS


async def test_a_stack_that_cannot_be_looked_at_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_STEADY_S", -1.0)
    with pytest.raises(OpsError, match="nats is down"):
        await steady(Looks(OpsError("nats is down")))


async def test_what_is_let_go_of_late_is_not_leaked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "look", Looks(MORE, MORE, MORE, MORE, REST))
    assert await leaks_since(GROUND, REST, 0.0) == []


async def test_what_is_never_let_go_of_is_leaked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_LEAVE_S", 0.05)
    monkeypatch.setattr(leaks, "look", Looks(MORE))
    assert await leaks_since(GROUND, REST, 0.0) == ["40 subscriptions, 39 before"]
