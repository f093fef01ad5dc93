"""Routes on the bus: an operator's changes, their history, and the copy that each gateway has."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bus.errors import Conflict, Invalid, NotFound
from bus.jobs.client import Bus, open_bus
from bus.route_names import RouteNames
from bus.routes.route import Route, Target
from bus.routes.store import RouteStore
from bus.routes.table import route_table
from bus.transport.bucket import BucketCopy
from tests.support.commands import json_of, on_bus
from tests.support.fleet import present
from tests.support.fleets import small_bus
from tests.support.restarts import own_server
from tests.support.waiting import eventually

NEVER_S = 3600.0


def to(*versions: str) -> list[Target]:
    return [Target(model="tone", version=version, weight=1) for version in versions]


def names(route: Route | None) -> list[str]:
    return [target.version for target in route.targets] if route is not None else []


@asynccontextmanager
async def running(bus: Bus, poll_s: float = NEVER_S) -> AsyncIterator[BucketCopy[Route]]:
    """A copy that is kept current; by default it reads only when notified."""
    table = route_table(bus, poll_s)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(table.run())
        await eventually(lambda: table.is_loaded)
        yield table
        task.cancel()


async def test_gateways_are_notified_of_every_change(bus: Bus) -> None:
    store = RouteStore(bus, "me")
    async with running(bus) as one, running(bus) as other:
        assert (one.entries, other.entries) == ({}, {})
        route = await store.set("hexgrad/Kokoro-82M", to("v1"))
        await eventually(lambda: one.entries == other.entries == {route.name: route})
        changed = await store.set(route.name, to("v1", "v2"), "tenant", "canary")
        await eventually(lambda: one.entries == other.entries == {route.name: changed})
        await store.remove(route.name)
        await eventually(lambda: one.entries == other.entries == {})
        await store.undo(route.name)
        await eventually(lambda: names(one.entries.get(route.name)) == ["v1", "v2"])


async def test_a_gateway_whose_notifications_are_lost_reads_again(bus: Bus) -> None:
    store = RouteStore(bus, "me")
    await store.set("tone", to("v1"))
    config = (await bus.js.info(RouteNames(bus.subjects.root).stream))["config"]
    del config["republish"]
    await bus.js.api(f"STREAM.UPDATE.{config['name']}", config)
    async with running(bus, 0.05) as table:
        assert names(table.entries["tone"]) == ["v1"]
        # `set` would declare the bucket again, with its notifications.
        await store.remove("tone")
        await eventually(lambda: table.entries == {})
        await store.undo("tone")
        await eventually(lambda: names(table.entries.get("tone")) == ["v1"])


@pytest.mark.slow
async def test_a_gateway_without_nats_keeps_its_routes_and_catches_up() -> None:
    with tempfile.TemporaryDirectory(prefix="antiphon-nats-") as folder, own_server(Path(folder)) as server:
        settings = small_bus(server.url, election_patience_s=0.3)
        async with open_bus(settings, "gateway") as bus, running(bus) as table:
            store = RouteStore(bus, "me")
            await store.set("tone", to("v1"))
            await eventually(lambda: "tone" in table.entries)
            server.kill()
            await asyncio.sleep(0)
            assert names(table.entries["tone"]) == ["v1"]
            server.start()
            await bus.connection.state.wait_up(20.0)
            await store.set("tone", to("v2"))
            await eventually(lambda: names(table.entries["tone"]) == ["v2"])


async def test_each_change_says_who_when_and_why(bus: Bus) -> None:
    store = RouteStore(bus, "me@here")
    await store.set("tone", to("v1"))
    await store.set("tone", to("v1", "v2"), "header:X-User", "canary")
    await store.remove("tone", "no more versions")
    first, second, third = await store.history("tone")
    assert [route.change.revision for route in (first, second, third)] == [1, 2, 3]
    assert {route.change.by for route in (first, second, third)} == {"me@here"}
    assert (second.sticky, second.change.why, third.change.why) == ("header:X-User", "canary", "no more versions")
    assert first.change.at <= second.change.at <= third.change.at
    assert (names(first), names(second), names(third)) == (["v1"], ["v1", "v2"], [])
    assert await store.all() == []


async def test_undo_goes_back_step_by_step_to_the_time_before_the_first_change(bus: Bus) -> None:
    store = RouteStore(bus, "me")
    for version in ("v1", "v2", "v3"):
        await store.set("tone", to(version))
    seen = []
    for _ in range(3):
        route = await store.undo("tone")
        seen.append((names(route), route.change.restores, route.change.revision))
    assert seen == [(["v2"], 2, 4), (["v1"], 1, 5), ([], 0, 6)]
    with pytest.raises(NotFound, match="all is undone"):
        await store.undo("tone")
    assert names(await store.undo("tone", to=3)) == ["v3"]
    assert names(await store.undo("tone")) == ["v2"]
    await store.set("tone", to("v9"))
    assert names(await store.undo("tone")) == ["v2"], "a change after an undo is undone first"
    with pytest.raises(NotFound, match="77 is none of those kept; revisions 1 to 10 of tone are kept"):
        await store.undo("tone", to=77)


async def test_64_changes_are_kept_and_older_ones_cannot_be_restored(bus: Bus) -> None:
    store = RouteStore(bus, "me")
    for number in range(66):
        await store.set("tone", to(f"v{number}"))
    kept = await store.history("tone")
    assert [kept[0].change.revision, kept[-1].change.revision, len(kept)] == [3, 66, 64]
    await store.undo("tone", to=4)
    with pytest.raises(NotFound, match="nothing to undo; revisions 4 to 67 of tone are kept"):
        await store.undo("tone")


async def test_changes_at_the_same_time_are_all_kept(bus: Bus) -> None:
    store = RouteStore(bus, "me")
    await store.set("tone", to("v0"))
    await asyncio.gather(*(store.set("tone", to(f"v{number}")) for number in range(1, 5)))
    kept = await store.history("tone")
    assert [route.change.revision for route in kept] == [1, 2, 3, 4, 5]
    assert {version for route in kept for version in names(route)} == {f"v{number}" for number in range(5)}


async def test_a_change_that_always_loses_against_others_is_a_conflict(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RouteStore(bus, "me")
    await store.set("tone", to("v1"))

    async def always_late(*_: object) -> bool:
        return False

    monkeypatch.setattr(store, "_put", always_late)
    for change in (store.set("tone", to("v2")), store.remove("tone"), store.undo("tone")):
        with pytest.raises(Conflict, match="'tone' was changed by other processes"):
            await change


async def test_a_malformed_record_affects_no_other_route(bus: Bus) -> None:
    store, table = RouteStore(bus, "me"), route_table(bus)
    await store.set("tone", to("v1"))
    await bus.js.publish(RouteNames(bus.subjects.root).route("other"), b"hello")
    await bus.js.publish(RouteNames(bus.subjects.root).route("tone"), b"", {"KV-Operation": "DEL"})
    await store.set("music", to("v1"))
    await table.refresh()
    assert [*table.entries] == ["music"]


async def test_without_a_bucket_there_are_no_routes(bus: Bus) -> None:
    store, table = RouteStore(bus, "me"), route_table(bus)
    await table.refresh()
    assert (await store.all(), table.entries, table.is_loaded) == ([], {}, True)
    for change in (store.find, store.remove, store.undo, store.history):
        with pytest.raises(NotFound, match="no route 'tone'"):
            await change("tone")
        with pytest.raises((NotFound, Invalid)):
            await change("a b")
    with pytest.raises(Invalid, match="there are 0, a route has 1 to 32"):
        await store.set("tone", [])


@pytest.mark.slow
async def test_the_command_sets_lists_shows_removes_and_undoes(bus: Bus) -> None:
    async with present(bus, "w1", "b1"):
        made = await json_of(bus, "route", "set", "tts-1", "tone@v1=95", "tone@=5", "--why", "try")
        assert [(each["model"], each["version"], each["share"]) for each in made["targets"]] == [
            ("tone", "v1", 0.95),
            ("tone", "", 0.05),
        ]
        assert (made["revision"], made["why"], made["sticky"]) == (1, "try", "session")
        assert (await json_of(bus, "route", "set", "tone", "v1=1", "--sticky", "tenant"))["sticky"] == "tenant"
        listed = await json_of(bus, "route", "list")
        assert [each["name"] for each in listed["routes"]] == ["tone", "tts-1"]
        assert (await on_bus(bus, "route", "show", "tts-1")).stdout.count("tone@v1 95 %, tone@ 5 %") == 1
        assert (await json_of(bus, "route", "remove", "tts-1"))["targets"] == []
        assert (await json_of(bus, "route", "undo", "tts-1"))["targets"] == made["targets"]
        history = await on_bus(bus, "route", "history", "tts-1")
        assert "removed" in history.stdout
        assert "(restores 1)" in history.stdout


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("set", "tone", "v1"), 2, "'v1': is not TARGET=WEIGHT, such as v1=95 or piper@v1=5"),
        (("set", "tone", "v1=many"), 2, "'v1=many': the weight 'many' is no number"),
        (("set", "tone", "v1=-1"), 2, "weight of tone@v1: -1 is not 0 to 1e+06"),
        (("set", "a b", "tone@v1=1", "--force"), 2, "name: 'a b' must be 1 to 128 characters"),
        (("set", "tone", "v1=1", "--sticky", "me", "--force"), 2, "sticky: 'me' is not session, tenant or header:NAME"),
        (("show", "tone"), 1, "no route 'tone'"),
        (("undo", "tone"), 1, "no route 'tone'"),
    ],
)
async def test_a_failure_is_one_line_and_an_exit_code(bus: Bus, args: tuple[str, ...], code: int, message: str) -> None:
    run = await on_bus(bus, "route", *args)
    assert (run.returncode, run.stdout) == (code, "")
    assert message in run.stderr
    assert "Traceback" not in run.stderr
    assert (await json_of(bus, "route", "list")) == {"routes": []}


@pytest.mark.slow
async def test_a_version_that_no_worker_offers_is_refused_unless_it_is_forced(bus: Bus) -> None:
    async with present(bus, "w1", "b1"):
        refused = await on_bus(bus, "route", "set", "tone", "v1=95", "v2=5")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "no worker offers version v2 of tone" in refused.stderr
        assert "'tone@v1'" in refused.stderr
        assert (await json_of(bus, "route", "list")) == {"routes": []}
        forced = await on_bus(bus, "route", "set", "tone", "v1=95", "v2=5", "--force", "--json")
        assert json.loads(forced.stdout)["revision"] == 1
