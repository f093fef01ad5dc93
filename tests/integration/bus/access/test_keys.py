"""Keys on the bus: an operator creates, limits and revokes them; every gateway's key ring follows at once."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from bus.access.keyring import KeyRing
from bus.access.keys import Keys, Limits, matches
from bus.errors import Conflict, Invalid, NotFound, Unreachable
from bus.jobs.client import Bus, open_bus
from tests.support.commands import json_of, on_bus
from tests.support.fleets import small_bus
from tests.support.restarts import own_server

NEVER_S = 3600.0


@asynccontextmanager
async def running(bus: Bus, poll_s: float = NEVER_S) -> AsyncIterator[KeyRing]:
    """A running key ring; by default it reads only when notified."""
    ring = KeyRing(bus, poll_s)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(ring.run())
        await until(lambda: ring.is_loaded)
        yield ring
        task.cancel()


async def until(is_so: Callable[[], bool], within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not is_so():
            await asyncio.sleep(0.005)


def revoked(ring: KeyRing, key_id: str) -> bool:
    key = ring.get(key_id)
    return key is not None and key.revoked_at is not None


async def test_a_key_ring_is_notified_of_every_change(bus: Bus) -> None:
    keys = Keys(bus)
    async with running(bus) as ring:
        key, text = await keys.create("acme", Limits(burst=2))
        await until(lambda: ring.get(key.id) == key)
        assert matches(ring.get(key.id), text)
        await keys.limit(key.id, Limits(requests_per_s=0.5))
        await until(lambda: ring.get(key.id) == msgspec.structs.replace(key, limits=Limits(requests_per_s=0.5)))
        await keys.revoke(key.id)
        await until(lambda: revoked(ring, key.id))
        assert ring.get("0123456789ab") is None


async def test_a_key_ring_without_notifications_polls(bus: Bus) -> None:
    keys = Keys(bus)
    key, _ = await keys.create("acme", Limits())
    config = (await bus.js.info(bus.subjects.keys_stream))["config"]
    del config["republish"]
    await bus.js.api(f"STREAM.UPDATE.{bus.subjects.keys_stream}", config)
    async with running(bus, 0.05) as ring:
        assert ring.get(key.id) == key
        await keys.revoke(key.id)
        await until(lambda: revoked(ring, key.id))


@pytest.mark.slow
async def test_more_keys_than_a_page_holds_are_all_read(bus: Bus) -> None:
    keys = Keys(bus)
    made = [(await keys.create("acme", Limits()))[0] for _ in range(300)]
    ring = KeyRing(bus)
    await ring.refresh()
    assert [ring.get(key.id) for key in made] == made
    assert {key.id for key in await keys.all()} == {key.id for key in made}


async def test_without_a_bucket_there_are_no_keys(bus: Bus) -> None:
    keys, ring = Keys(bus), KeyRing(bus)
    await ring.refresh()
    assert ring.is_loaded
    assert await keys.all() == []
    for change in (keys.revoke, keys.find):
        with pytest.raises(NotFound, match="no key '0123456789ab'"):
            await change("0123456789ab")
    with pytest.raises(NotFound):
        await keys.limit("a.b", Limits())
    with pytest.raises(Invalid, match="tenant"):
        await keys.create("a.b", Limits())


async def test_a_key_that_an_operator_deletes_by_hand_is_gone(bus: Bus) -> None:
    """`nats kv del`, `nats kv purge`, and the bucket deleted and created again, with as many entries or fewer."""
    keys, ring, stream = Keys(bus), KeyRing(bus), bus.subjects.keys_stream
    made = [(await keys.create("acme", Limits()))[0] for _ in range(3)]
    await ring.refresh()
    await bus.js.publish(bus.subjects.key(made[0].id), b"", {"KV-Operation": "DEL"})
    await ring.refresh()
    assert [ring.get(key.id) for key in made] == [None, *made[1:]]
    await bus.js.api(f"STREAM.PURGE.{stream}", {"filter": bus.subjects.key(made[1].id)})
    await ring.refresh()
    assert [ring.get(key.id) for key in made] == [None, None, made[2]]
    await bus.js.api(f"STREAM.DELETE.{stream}")
    new, _ = await keys.create("acme", Limits())
    await ring.refresh()
    assert (ring.get(made[2].id), ring.get(new.id)) == (None, new)
    await bus.js.api(f"STREAM.DELETE.{stream}")
    await ring.refresh()
    assert ring.get(new.id) is None


async def test_a_malformed_record_affects_no_other_key(bus: Bus) -> None:
    keys, ring = Keys(bus), KeyRing(bus)
    key, _ = await keys.create("acme", Limits())
    await bus.js.publish(bus.subjects.key("0123456789ab"), b"hello")
    await ring.refresh()
    assert (ring.get(key.id), ring.get("0123456789ab"), await keys.all()) == (key, None, [key])


async def test_changes_at_the_same_time_do_not_undo_each_other(bus: Bus) -> None:
    keys = Keys(bus)
    key, _ = await keys.create("acme", Limits())
    await asyncio.gather(*(keys.limit(key.id, Limits(burst=number)) for number in (1, 2, 3)), keys.revoke(key.id))
    found = await keys.find(key.id)
    assert found.revoked_at is not None
    assert found.limits.burst in {1, 2, 3}
    again = await keys.revoke(key.id)
    assert again.revoked_at == found.revoked_at


async def test_a_change_that_always_loses_against_others_is_a_conflict(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys(bus)
    key, _ = await keys.create("acme", Limits())

    async def always_late(*_: object) -> bool:
        return False

    monkeypatch.setattr(keys, "_put", always_late)
    with pytest.raises(Conflict, match=key.id):
        await keys.revoke(key.id)


@pytest.mark.slow
async def test_a_key_ring_that_cannot_reach_the_bus_keeps_its_keys_and_catches_up() -> None:
    with tempfile.TemporaryDirectory(prefix="antiphon-nats-") as folder, own_server(Path(folder)) as server:
        settings = small_bus(server.url, election_patience_s=0.3)
        async with open_bus(settings, "gateway") as bus, running(bus) as ring:
            key, _ = await Keys(bus).create("acme", Limits())
            await until(lambda: ring.get(key.id) == key)
            server.kill()
            with pytest.raises(Unreachable):
                await ring.refresh()
            assert ring.get(key.id) == key
            server.start()
            await bus.connection.state.wait_up(20.0)
            await Keys(bus).revoke(key.id)
            # Not by polling: notifications arrive on the new connection again.
            await until(lambda: revoked(ring, key.id))


@pytest.mark.slow
async def test_the_command_creates_lists_limits_and_revokes(bus: Bus) -> None:
    made = await json_of(bus, "keys", "create", "--tenant", "acme", "--requests-per-s", "2.5", "--burst", "4")
    assert sorted(made) == ["id", "key", "tenant"]
    assert made["tenant"] == "acme"
    key = await Keys(bus).find(made["id"])
    assert matches(key, made["key"])
    assert key.limits == Limits(requests_per_s=2.5, burst=4)
    changed = await json_of(bus, "keys", "limit", made["id"], "--burst", "none", "--audio-s-per-day", "3600")
    assert (changed["requests_per_s"], changed["burst"], changed["audio_s_per_day"]) == (2.5, None, 3600)
    assert (await json_of(bus, "keys", "revoke", made["id"]))["revoked_at"]
    listed = await on_bus(bus, "keys", "list", "--json")
    assert [(each["id"], each["tenant"]) for each in json.loads(listed.stdout)["keys"]] == [(made["id"], "acme")]
    # The key is printed once; its record never holds it.
    assert made["key"] not in listed.stdout
    assert key.hash not in listed.stdout


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("create", "--tenant", "a.b"), 1, "tenant: 'a.b' must be 1 to 64 characters"),
        (("create", "--tenant", "acme", "--burst", "many"), 2, "--burst: 'many': Expected `int"),
        (("revoke", "unknown"), 1, "no key 'unknown'"),
    ],
)
async def test_a_failure_is_one_line_and_an_exit_code(bus: Bus, args: tuple[str, ...], code: int, message: str) -> None:
    run = await on_bus(bus, "keys", *args)
    assert (run.returncode, run.stdout) == (code, "")
    assert message in run.stderr
    assert "Traceback" not in run.stderr
