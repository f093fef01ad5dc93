"""When a stack is at rest, and which of its resources count as leaked."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from ops.chaos import leaks
from ops.chaos.leaks import Snapshot
from ops.chaos.live_stack import LiveStack
from ops.chaos.settling import Patience, leaks_since, steady
from ops.errors import OpsError

REST = Snapshot({}, subscriptions=39, connections=6, consumers=10, unacknowledged=0, queued=0)
LESS, MORE = replace(REST, subscriptions=38), replace(REST, subscriptions=40)
#: A stack without workers is at rest at once.
LIVE = cast(LiveStack, SimpleNamespace(stack=SimpleNamespace(workers=[])))
AT_ONCE = Patience(every_s=0.0)
NONE = Patience(every_s=0.0, steady_s=-1.0)


class Snapshots:
    """The snapshots that are taken, one after the other; the last one again and again."""

    def __init__(self, *found: Snapshot | Exception) -> None:
        self._found: Sequence[Snapshot | Exception] = found
        self.num = 0

    async def __call__(self, stack: object = None) -> Snapshot:
        found = self._found[min(self.num, len(self._found) - 1)]
        self.num += 1
        if isinstance(found, Exception):
            raise found
        return found


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
async def test_a_stack_is_at_rest_when_three_snapshots_in_a_row_are_alike(
    found: Sequence[Snapshot | Exception], num: int
) -> None:
    snapshots = Snapshots(*found)
    assert await steady(snapshots, AT_ONCE) == REST
    assert snapshots.num == num


async def test_a_stack_that_never_rests_is_taken_as_it_is_in_the_end() -> None:
    assert await steady(Snapshots(LESS), NONE) == LESS


async def test_a_stack_that_cannot_be_measured_is_an_error() -> None:
    with pytest.raises(OpsError, match="nats is down"):
        await steady(Snapshots(OpsError("nats is down")), NONE)


async def test_a_resource_that_is_released_late_is_not_leaked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "snapshot", Snapshots(MORE, MORE, MORE, MORE, REST))
    assert await leaks_since(LIVE, REST, 0.0, AT_ONCE) == []


async def test_a_resource_that_is_never_released_is_leaked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "snapshot", Snapshots(MORE))
    assert await leaks_since(LIVE, REST, 0.0, replace(AT_ONCE, leave_s=0.05)) == ["40 subscriptions, 39 before"]
