"""Attach: from anywhere in a log, every entry once, in order, until the end; whatever gets lost on the way."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from bus import wire
from bus.errors import Gone, NotFound
from bus.jobs.attach import Attachment, attach_known
from bus.jobs.client import Bus, open_bus
from bus.jobs.entry import Entry
from bus.jobs.submit import submit
from bus.jobs.writer import Writer
from bus.settings import BusSettings
from bus.subjects import JobKey
from tests.support.bus import done, entries, footprint, hear, lose_messages, name_of, start, write
from tests.support.jobs import tone_job
from tests.support.restarts import own_server
from tests.support.waiting import eventually

WITHIN_S = 20.0


@pytest.fixture
def never_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attachment that hears nothing does not look at the log's end: what it is given came to it in another way."""
    monkeypatch.setattr("bus.jobs.attach._SILENCE_S", 600.0)


def seqs(log: list[Entry]) -> list[int]:
    return [entry.seq for entry in log]


async def finish(by: Writer, blocks: int, frames: int = 10, pause_s: float = 0.0) -> None:
    for _ in range(blocks):
        await write(by, 1, frames)
        await asyncio.sleep(pause_s)
    await by.end(wire.End.DONE, done(by))


@pytest.mark.parametrize("seed", range(4))
async def test_rule_18_whoever_joins_at_any_time_from_any_sequence_hears_every_entry_once(bus: Bus, seed: int) -> None:
    chance = random.Random(seed)
    _, claim, by = await start(bus, tone_job())

    async def join() -> tuple[int, list[Entry]]:
        await asyncio.sleep(chance.random() * 0.2)
        after = chance.choice([0, claim.lease_seq, *range(claim.lease_seq, claim.lease_seq + by.position.block + 1)])
        heard: list[Entry] = []
        buffer = chance.choice([1, 3000, 1 << 20])
        async with Attachment(
            bus.connection, bus.logs, claim.key, after_seq=after, max_buffer_bytes=buffer
        ) as attached:
            async for batch in attached:
                heard += batch
                await asyncio.sleep(chance.choice([0, 0, 0.01]))
        return after, heard

    joined = [asyncio.ensure_future(join()) for _ in range(25)]
    await finish(by, 60, frames=chance.choice([10, 1000]), pause_s=0.002)
    log = await entries(bus, claim.key)
    for after, heard in await asyncio.wait_for(asyncio.gather(*joined), 60):
        wanted = [(entry.seq, entry.payload) for entry in log if entry.seq > after]
        assert [(entry.seq, entry.payload) for entry in heard] == wanted


@pytest.mark.usefixtures("never_looks")
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
        heard = await hear(bus, claim.key, after, within_s=WITHIN_S)
        assert seqs(heard) == [seq for seq in seqs(log) if seq > after]


async def test_rule_18_a_slow_listener_with_a_small_buffer_misses_nothing(bus: Bus) -> None:
    _, claim, by = await start(bus, tone_job())
    heard: list[Entry] = []
    async with Attachment(bus.connection, bus.logs, claim.key, max_buffer_bytes=5000) as attached:
        batches = aiter(attached)
        writing = asyncio.ensure_future(finish(by, 50, frames=1000))
        heard += await anext(batches)
        await writing
        assert attached._live_bytes <= 5000
        async for batch in batches:
            heard += batch
    assert seqs(heard) == seqs(await entries(bus, claim.key))


@pytest.mark.usefixtures("never_looks")
@pytest.mark.parametrize("seed", range(3))
async def test_rule_18_live_messages_lost_on_the_way_are_read_back(bus: Bus, seed: int) -> None:
    chance = random.Random(seed)
    _, claim, by = await start(bus, tone_job())
    heard: list[Entry] = []
    async with Attachment(bus.connection, bus.logs, claim.key, is_new=True) as attached:
        lose_messages(bus, attached, lambda message: chance.random() >= 0.6 and b"done" not in (message.head or b""))
        writing = asyncio.ensure_future(finish(by, 60, pause_s=0.001))
        async with asyncio.timeout(WITHIN_S):
            async for batch in attached:
                heard += batch
        await writing
    assert seqs(heard) == seqs(await entries(bus, claim.key))


async def test_rule_18_the_end_is_found_although_its_live_message_was_lost(bus: Bus) -> None:
    _, claim, by = await start(bus, tone_job())
    await write(by, 3)
    async with idle_listener(bus, claim.key) as (attached, listening):
        attached._subscription.close()
        await finish(by, 2)
        assert seqs(await asyncio.wait_for(listening, WITHIN_S)) == seqs(await entries(bus, claim.key))


@contextlib.asynccontextmanager
async def idle_listener(bus: Bus, name: JobKey) -> AsyncIterator[tuple[Attachment, "asyncio.Task[list[Entry]]"]]:
    """A listener that has read back all there was and waits for live entries."""

    async def listen() -> list[Entry]:
        return [entry async for batch in attached for entry in batch]

    async with Attachment(bus.connection, bus.logs, name) as attached:
        listening = asyncio.ensure_future(listen())
        await eventually(lambda: attached._last_seq and not attached._behind and not bus.connection.replies.num_waiting)
        yield attached, listening
        listening.cancel()


@pytest.mark.usefixtures("never_looks")
async def test_rule_18_what_comes_while_the_end_is_looked_at_does_not_wait_for_that_look(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a cluster elects a leader the look is answered after seconds, and entries may come before."""
    _, claim, by = await start(bus, tone_job())
    await write(by, 1, 10)
    looking = asyncio.Event()

    async def unanswered(name: JobKey) -> None:
        looking.set()
        await asyncio.Event().wait()

    async with Attachment(bus.connection, bus.logs, claim.key) as attached:
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
            listening = [asyncio.ensure_future(hear(bus, claim.key, within_s=60)) for _ in range(5)]
            await write(by, 5)
            server.restart()
            await write(by, 5)
            server.restart()
            await finish(by, 5)
            log = await entries(bus, claim.key)
            assert [entry.block for entry in log[:-1]] == list(range(15))
            for heard in await asyncio.gather(*listening):
                assert seqs(heard) == seqs(log)


@pytest.mark.usefixtures("never_looks")
async def test_rule_18_after_a_reconnect_what_was_missed_is_read_back_at_once(
    tmp_path: Path, bus_settings: BusSettings
) -> None:
    with own_server(tmp_path) as server:
        async with open_bus(msgspec.structs.replace(bus_settings, nats=server.url), "test") as bus:
            _, claim, by = await start(bus, tone_job())
            await write(by, 1)
            async with idle_listener(bus, claim.key) as (attached, listening):
                # Said while the listener was cut off, with nothing after it that would show the gap.
                lose_messages(bus, attached, lambda _: True)
                await finish(by, 1)
                server.restart()
                assert len(await asyncio.wait_for(listening, WITHIN_S)) == 3


async def test_a_new_log_is_heard_from_its_first_entry_without_being_read(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tone_job()
    name = name_of(bus, job)
    heard: list[Entry] = []
    async with Attachment(bus.connection, bus.logs, name, is_new=True, max_buffer_bytes=10_000) as attached:
        monkeypatch.setattr(bus.js.direct, "page", None)
        _, _, by = await start(bus, job)
        batches = aiter(attached)
        for _ in range(20):
            await write(by, 1, frames=1000)
            heard += await anext(batches)
        await by.end(wire.End.DONE, done(by))
        heard += await anext(batches)
        assert attached._live_bytes == 0
    monkeypatch.undo()
    assert seqs(heard) == seqs(await entries(bus, name))


@pytest.mark.usefixtures("never_looks")
async def test_a_queued_job_is_waited_for(bus: Bus) -> None:
    job = tone_job()
    await submit(bus, job)
    listening = asyncio.ensure_future(hear(bus, name_of(bus, job)))
    await asyncio.sleep(0)
    await bus.logs.end(name_of(bus, job), wire.End.CANCELLED, "")
    assert [entry.kind for entry in await asyncio.wait_for(listening, WITHIN_S)] == ["cancelled"]


@pytest.mark.usefixtures("never_looks")
@pytest.mark.parametrize("after_seq", [0, 10**9])
async def test_no_such_job_is_told_at_once(bus: Bus, after_seq: int) -> None:
    with pytest.raises(Gone if after_seq else NotFound):
        await hear(bus, bus.subjects.job_key("public", "nobody"), after_seq, within_s=WITHIN_S)
    with pytest.raises(NotFound):
        await attach_known(bus.connection, bus.logs, bus.subjects.job_key("public", "nobody"), after_seq)


async def test_rule_18_a_log_that_lost_its_beginning_is_gone_as_a_whole(bus: Bus) -> None:
    _, claim, by = await start(bus, tone_job())
    await finish(by, 5)
    log = await entries(bus, claim.key)
    await bus.js.delete(bus.subjects.replies_stream, log[0].seq)
    with pytest.raises(Gone, match="10 frames"):
        await hear(bus, claim.key)
    birth = await bus.logs.birth(claim.key)
    assert birth is not None
    await bus.js.delete(bus.subjects.replies_stream, birth[0])
    with pytest.raises(Gone):
        await attach_known(bus.connection, bus.logs, claim.key)


@pytest.mark.usefixtures("never_looks")
async def test_a_log_removed_while_it_is_read_is_gone(bus: Bus) -> None:
    _, claim, by = await start(bus, tone_job())
    await write(by, 3)
    await purge(bus, claim.key)
    with pytest.raises(Gone):
        await hear(bus, claim.key, claim.lease_seq + 3, within_s=WITHIN_S)


async def purge(bus: Bus, name: JobKey) -> None:
    for subject in (name.birth, name.lease, name.entries):
        await bus.js.api(f"STREAM.PURGE.{bus.subjects.replies_stream}", {"filter": subject})


@pytest.mark.usefixtures("never_looks")
async def test_somebody_elses_words_on_the_live_subject_are_not_entries(bus: Bus) -> None:
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
    cancelled = [asyncio.ensure_future(hear(bus, claim.key)) for _ in range(20)]
    await bus.connection.flush()
    for one in cancelled:
        one.cancel()
    await asyncio.gather(*cancelled, return_exceptions=True)
    assert footprint(bus.connection) == before
    await by.end(wire.End.FAILED, wire.Failed(code="engine_failed", message=""))
