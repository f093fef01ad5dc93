"""Attach: from anywhere in a log, every entry once, in order, until the end; whatever gets lost on the way."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from bus import wire
from bus.errors import Gone, LogDamaged, NotFound
from bus.jobs.attach import Attachment, attach_known
from bus.jobs.client import Bus, open_bus
from bus.jobs.entry import Entry
from bus.jobs.log import Writer
from bus.jobs.submit import submit
from bus.settings import BusSettings
from bus.subjects import JobKey
from tests.support.bus import done, entries, follow, footprint, key_of, start, write
from tests.support.jobs import tone_job
from tests.support.lossy import LossyConnection
from tests.support.restarts import own_server
from tests.support.waiting import eventually

WITHIN_S = 20.0


#: An attachment with this silence never reads the tail for want of messages: its entries came in another way.
NEVER_S = 600.0


def seqs(log: list[Entry]) -> list[int]:
    return [entry.seq for entry in log]


async def finish(by: Writer, blocks: int, frames: int = 10, pause_s: float = 0.0) -> None:
    for _ in range(blocks):
        await write(by, 1, frames)
        await asyncio.sleep(pause_s)
    await by.end(wire.End.DONE, done(by))


@pytest.mark.parametrize("seed", range(4))
async def test_rule_18_a_listener_that_joins_at_any_time_from_any_sequence_gets_every_entry_once(
    bus: Bus, seed: int
) -> None:
    chance = random.Random(seed)
    _, claim, by = await start(bus, tone_job())

    async def join() -> tuple[int, list[Entry]]:
        await asyncio.sleep(chance.random() * 0.2)
        after = chance.choice([0, claim.lease_seq, *range(claim.lease_seq, claim.lease_seq + by.position.block + 1)])
        received: list[Entry] = []
        buffer = chance.choice([1, 3000, 1 << 20])
        async with Attachment(
            bus.connection, bus.logs, claim.key, after_seq=after, max_buffer_bytes=buffer
        ) as attached:
            async for batch in attached:
                received += batch
                await asyncio.sleep(chance.choice([0, 0, 0.01]))
        return after, received

    joined = [asyncio.ensure_future(join()) for _ in range(25)]
    await finish(by, 60, frames=chance.choice([10, 1000]), pause_s=0.002)
    log = await entries(bus, claim.key)
    for after, received in await asyncio.wait_for(asyncio.gather(*joined), 60):
        wanted = [(entry.seq, entry.payload) for entry in log if entry.seq > after]
        assert [(entry.seq, entry.payload) for entry in received] == wanted


async def test_rule_18_the_sequence_of_every_entry_is_a_place_to_resume_even_that_of_the_birth_and_of_the_end(
    bus: Bus,
) -> None:
    job = tone_job()
    _, claim, by = await start(bus, job)
    await finish(by, 5)
    log = await entries(bus, claim.key)
    birth = await bus.logs.birth(claim.key)
    assert birth is not None
    for after in [0, birth[0], claim.lease_seq, *seqs(log), log[-1].seq + 1000]:
        received = await follow(bus, claim.key, after, within_s=WITHIN_S, silence_s=NEVER_S)
        assert seqs(received) == [seq for seq in seqs(log) if seq > after]


async def test_rule_18_a_slow_listener_with_a_small_buffer_misses_nothing(bus: Bus) -> None:
    _, claim, by = await start(bus, tone_job())
    received: list[Entry] = []
    async with Attachment(bus.connection, bus.logs, claim.key, max_buffer_bytes=5000) as attached:
        batches = aiter(attached)
        writing = asyncio.ensure_future(finish(by, 50, frames=1000))
        received += await anext(batches)
        await writing
        assert attached.buffered_bytes <= 5000
        async for batch in batches:
            received += batch
    assert seqs(received) == seqs(await entries(bus, claim.key))


@pytest.mark.parametrize("seed", range(3))
async def test_rule_18_live_messages_lost_on_the_way_are_read_back(bus: Bus, seed: int) -> None:
    chance = random.Random(seed)
    _, claim, by = await start(bus, tone_job())
    received: list[Entry] = []
    lossy = LossyConnection(bus.connection)
    lossy.passes = lambda message: chance.random() < 0.6 or b"done" in (message.head or b"")
    async with Attachment(lossy, bus.logs, claim.key, is_new=True, silence_s=NEVER_S) as attached:
        writing = asyncio.ensure_future(finish(by, 60, pause_s=0.001))
        async with asyncio.timeout(WITHIN_S):
            async for batch in attached:
                received += batch
        await writing
    assert seqs(received) == seqs(await entries(bus, claim.key))


async def test_rule_18_the_end_is_found_although_its_live_message_was_lost(bus: Bus) -> None:
    _, claim, by = await start(bus, tone_job())
    await write(by, 3)
    async with idle_listener(bus, claim.key, silence_s=0.1) as (lossy, listening):
        lossy.passes = lambda _: False
        await finish(by, 2)
        assert seqs(await asyncio.wait_for(listening, WITHIN_S)) == seqs(await entries(bus, claim.key))


@contextlib.asynccontextmanager
async def idle_listener(
    bus: Bus, key: JobKey, silence_s: float = NEVER_S
) -> AsyncIterator[tuple[LossyConnection, "asyncio.Task[list[Entry]]"]]:
    """A listener that has read back all there was and waits for live entries."""

    async def listen() -> list[Entry]:
        return [entry async for batch in attached for entry in batch]

    lossy = LossyConnection(bus.connection)
    async with Attachment(lossy, bus.logs, key, silence_s=silence_s) as attached:
        listening = asyncio.ensure_future(listen())
        await eventually(lambda: attached.is_idle)
        yield lossy, listening
        listening.cancel()


async def test_rule_18_an_entry_that_comes_while_the_tail_is_read_does_not_wait_for_that_read(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a cluster elects a leader the read is answered after seconds, and entries may come before."""
    _, claim, by = await start(bus, tone_job())
    await write(by, 1, 10)
    looking = asyncio.Event()

    async def unanswered(key: JobKey) -> None:
        looking.set()
        await asyncio.Event().wait()

    async with Attachment(bus.connection, bus.logs, claim.key, silence_s=NEVER_S) as attached:
        batches = aiter(attached)
        await anext(batches)
        monkeypatch.setattr(bus.logs, "tail", unanswered)
        waiting = asyncio.ensure_future(anext(batches))
        await asyncio.wait_for(looking.wait(), WITHIN_S)
        await write(by, 1, 10)
        (entry,) = await asyncio.wait_for(waiting, WITHIN_S)
        await batches.aclose()
    assert entry.block == 1


async def test_rule_18_a_server_restart_in_the_middle_costs_a_listener_nothing(
    tmp_path: Path, bus_settings: BusSettings
) -> None:
    with own_server(tmp_path) as server:
        async with open_bus(msgspec.structs.replace(bus_settings, nats=server.url), "test") as bus:
            _, claim, by = await start(bus, tone_job())
            listening = [asyncio.ensure_future(follow(bus, claim.key, within_s=60)) for _ in range(5)]
            await write(by, 5)
            server.restart()
            await write(by, 5)
            server.restart()
            await finish(by, 5)
            log = await entries(bus, claim.key)
            assert [entry.block for entry in log[:-1]] == list(range(15))
            for received in await asyncio.gather(*listening):
                assert seqs(received) == seqs(log)


async def test_rule_18_after_a_reconnect_missed_entries_are_read_back_at_once(
    tmp_path: Path, bus_settings: BusSettings
) -> None:
    with own_server(tmp_path) as server:
        async with open_bus(msgspec.structs.replace(bus_settings, nats=server.url), "test") as bus:
            _, claim, by = await start(bus, tone_job())
            await write(by, 1)
            async with idle_listener(bus, claim.key) as (lossy, listening):
                # Published while the listener was cut off, with nothing after it that would show the gap.
                lossy.passes = lambda _: False
                await finish(by, 1)
                server.restart()
                assert len(await asyncio.wait_for(listening, WITHIN_S)) == 3


async def test_a_new_log_is_followed_from_its_first_entry_without_being_read(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tone_job()
    key = key_of(bus, job)
    received: list[Entry] = []
    async with Attachment(bus.connection, bus.logs, key, is_new=True, max_buffer_bytes=10_000) as attached:
        monkeypatch.setattr(bus.js.direct, "page", None)
        _, _, by = await start(bus, job)
        batches = aiter(attached)
        for _ in range(20):
            await write(by, 1, frames=1000)
            received += await anext(batches)
        await by.end(wire.End.DONE, done(by))
        received += await anext(batches)
        assert attached.buffered_bytes == 0
    monkeypatch.undo()
    assert seqs(received) == seqs(await entries(bus, key))


async def test_a_queued_job_is_waited_for(bus: Bus) -> None:
    job = tone_job()
    await submit(bus, job)
    listening = asyncio.ensure_future(follow(bus, key_of(bus, job), silence_s=NEVER_S))
    await asyncio.sleep(0)
    await bus.logs.end(key_of(bus, job), wire.End.CANCELLED, "")
    assert [entry.kind for entry in await asyncio.wait_for(listening, WITHIN_S)] == ["cancelled"]


@pytest.mark.parametrize("after_seq", [0, 10**9])
async def test_a_job_that_does_not_exist_is_refused_at_once(bus: Bus, after_seq: int) -> None:
    with pytest.raises(Gone if after_seq else NotFound):
        await follow(bus, bus.subjects.job_key("public", "unknown"), after_seq, within_s=WITHIN_S, silence_s=NEVER_S)
    with pytest.raises(NotFound):
        await attach_known(bus.connection, bus.logs, bus.subjects.job_key("public", "unknown"), after_seq)


async def test_rule_18_a_log_that_lost_its_beginning_is_gone_as_a_whole(bus: Bus) -> None:
    _, claim, by = await start(bus, tone_job())
    await finish(by, 5)
    log = await entries(bus, claim.key)
    await bus.js.delete(bus.subjects.replies_stream, log[0].seq)
    with pytest.raises(LogDamaged, match="frames 0 to 9 "):
        await follow(bus, claim.key)
    birth = await bus.logs.birth(claim.key)
    assert birth is not None
    await bus.js.delete(bus.subjects.replies_stream, birth[0])
    with pytest.raises(Gone, match="frames 0 to 9 "):  # retention removes the birth first
        await follow(bus, claim.key)
    with pytest.raises(Gone):
        await attach_known(bus.connection, bus.logs, claim.key)


async def test_a_log_removed_while_it_is_read_is_gone(bus: Bus) -> None:
    _, claim, by = await start(bus, tone_job())
    await write(by, 3)
    await purge(bus, claim.key)
    with pytest.raises(Gone):
        await follow(bus, claim.key, claim.lease_seq + 3, within_s=WITHIN_S, silence_s=NEVER_S)


async def purge(bus: Bus, key: JobKey) -> None:
    for subject in (key.birth, key.lease, key.entries):
        await bus.js.api(f"STREAM.PURGE.{bus.subjects.replies_stream}", {"filter": subject})


async def test_messages_of_a_stranger_on_the_live_subject_are_not_entries(bus: Bus) -> None:
    _, claim, by = await start(bus, tone_job())
    await write(by, 1)
    async with idle_listener(bus, claim.key) as (_, listening):
        for headers in (None, {"Antiphon-Kind": "done"}, {"Nats-Sequence": "x"}):
            bus.connection.publish(claim.key.live, b"intruder", headers=headers)
        await finish(by, 3)
        assert seqs(await asyncio.wait_for(listening, WITHIN_S)) == seqs(await entries(bus, claim.key))


async def test_two_hundred_attachments_leave_nothing_behind(bus: Bus) -> None:
    _, claim, by = await start(bus, tone_job())
    await write(by, 3)
    before = footprint(bus.connection)
    for _ in range(200):
        async with Attachment(bus.connection, bus.logs, claim.key) as attached:
            batches = aiter(attached)
            assert len(await anext(batches)) == 3
            await batches.aclose()
    cancelled = [asyncio.ensure_future(follow(bus, claim.key)) for _ in range(20)]
    await bus.connection.flush()
    for one in cancelled:
        one.cancel()
    await asyncio.gather(*cancelled, return_exceptions=True)
    assert footprint(bus.connection) == before
    await by.end(wire.End.FAILED, wire.Failed(code="engine_failed", message=""))
