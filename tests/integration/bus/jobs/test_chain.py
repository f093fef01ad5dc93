"""Checkpoints that grow: a takeover reads the whole chain of them, or goes on from the snapshot before it."""

import asyncio
import time

import msgspec
import pytest

from bus import wire
from bus.jobs import entry as entries_of_a_log
from bus.jobs.claim import Claim
from bus.jobs.client import Bus
from bus.jobs.entry import CHAIN, NEXT, Chain, Position
from bus.jobs.log import Writer
from tests.support.bus import entries, start, take_delivery, write, writer
from tests.support.jobs import tone_job


async def grow(by: Writer, *data: bytes, grows: bool = True) -> None:
    for each in data:
        assert await by.checkpoint(wire.Checkpoint(frame=by.position.frame, data=each), grows=grows)


async def taken_over(bus: Bus, worker: str) -> Claim:
    """The job is given back by whichever worker has it, and taken by `worker`."""
    stored = await bus.js.last(bus.subjects.replies_stream, bus.subjects.job_key("public", "j").lease)
    assert stored is not None
    bus.connection.publish(wire.decode(wire.Lease, stored.message.data).ack, b"-NAK")
    _, claim = await take_delivery(bus, worker, max_attempts=1_000)
    assert claim is not None
    return claim


async def remove(bus: Bus, claim: Claim, number: int) -> None:
    """Remove entry `number` of the log."""
    await bus.js.delete(bus.subjects.replies_stream, (await entries(bus, claim.key))[number].seq)


@pytest.mark.parametrize("count", [1, 2, 16, 17, 40])
async def test_rule_08_a_takeover_reads_all_growing_checkpoints_in_order(bus: Bus, count: int) -> None:
    _, _, by = await start(bus, tone_job(id="j"))
    for number in range(count):
        await write(by, 1)
        await grow(by, b"%d" % number)
    await write(by, 1)
    claim = await taken_over(bus, "w2")
    assert claim.increments == [b"%d" % number for number in range(count)]
    assert (claim.checkpoint, claim.position) == (None, by.position)


async def test_rule_08_a_kill_behind_any_entry_loses_no_checkpoint_before_it(bus: Bus) -> None:
    """Each worker appends one entry and dies; the next one has all that was stored, and adds to it."""
    _, claim, by = await start(bus, tone_job(id="j"))
    made: list[bytes] = []
    for number in range(12):
        if number % 3:
            await grow(by, b"%d" % number)
            made.append(b"%d" % number)
        else:
            await write(by, 1)
        claim = await taken_over(bus, f"w{number}")
        assert claim.increments == made
        by = writer(bus, claim)
    assert [entry.block for entry in await entries(bus, claim.key) if entry.kind == "block"] == list(range(4))


async def test_a_snapshot_begins_a_new_chain(bus: Bus) -> None:
    _, _, by = await start(bus, tone_job(id="j"))
    await grow(by, b"old")
    await grow(by, b"whole", grows=False)
    claim = await taken_over(bus, "w2")
    assert (claim.checkpoint, claim.increments) == (b"whole", [])
    by = writer(bus, claim)
    await grow(by, b"a", b"b")
    claim = await taken_over(bus, "w3")
    assert (claim.checkpoint, claim.increments) == (b"whole", [b"a", b"b"])


@pytest.mark.parametrize("number", [1, 2])
async def test_without_one_of_its_entries_a_chain_is_not_used_and_not_added_to(bus: Bus, number: int) -> None:
    _, claim, by = await start(bus, tone_job(id="j"))
    await grow(by, b"whole", grows=False)
    await grow(by, b"a", b"b", b"c")
    await remove(bus, claim, number)
    claim = await taken_over(bus, "w2")
    assert (claim.checkpoint, claim.increments) == (b"whole", [])
    by = writer(bus, claim)
    await grow(by, b"A")
    claim = await taken_over(bus, "w3")
    assert (claim.checkpoint, claim.increments) == (b"whole", [b"A"])


async def test_without_its_snapshot_a_chain_is_not_used(bus: Bus) -> None:
    _, claim, by = await start(bus, tone_job(id="j"))
    await grow(by, b"whole", grows=False)
    await grow(by, b"a")
    await write(by, 1)
    await remove(bus, claim, 0)
    claim = await taken_over(bus, "w2")
    assert (claim.checkpoint, claim.increments) == (None, [])
    assert claim.position == msgspec.structs.replace(by.position, checkpoint_seq=0, chain=Chain())


async def test_a_chain_that_names_an_entry_of_another_log_is_not_used(bus: Bus) -> None:
    _, _, other = await start(bus, tone_job(id="other"))
    await grow(other, b"theirs")
    _, _, by = await start(bus, tone_job(id="j"))
    by.position = msgspec.structs.replace(by.position, chain=other.position.chain)
    await write(by, 1)
    assert (await taken_over(bus, "w2")).increments == []


async def test_a_worker_of_an_older_version_goes_on_from_the_snapshot_and_its_entries_name_no_chain(bus: Bus) -> None:
    """It reads `Antiphon-Next` of the last entry alone, and copies its last number."""
    _, claim, by = await start(bus, tone_job(id="j"))
    await grow(by, b"whole", grows=False)
    await grow(by, b"a")
    await write(by, 1)
    log = await entries(bus, claim.key)
    old = Position.parse(log[-1].message.header(NEXT) or "")
    assert (old.checkpoint_seq, old.chain) == (log[0].seq, Chain())
    claim = await taken_over(bus, "old")
    by = writer(bus, msgspec.structs.replace(claim, position=old))
    await write(by, 1)
    assert (await entries(bus, claim.key))[-1].message.header(CHAIN) is None
    claim = await taken_over(bus, "w3")
    assert (claim.checkpoint, claim.increments) == (b"whole", [])


async def test_a_checkpoint_that_does_not_fit_into_the_chain_ends_it_until_a_snapshot(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries_of_a_log, "MAX_CHAIN_BYTES", 100)
    _, _, by = await start(bus, tone_job(id="j"))
    await grow(by, b"a")
    assert not await by.checkpoint(wire.Checkpoint(frame=0, data=b"b" * 100), grows=True)
    assert not await by.checkpoint(wire.Checkpoint(frame=0, data=b"c"), grows=True)
    claim = await taken_over(bus, "w2")
    assert claim.increments == [b"a"]
    by = writer(bus, claim)
    await grow(by, b"b")
    await grow(by, b"whole", grows=False)
    await grow(by, b"d")
    assert (await taken_over(bus, "w3")).increments == [b"d"]


async def test_a_chain_that_is_not_read_in_time_is_not_used(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, by = await start(bus, tone_job(id="j"))
    await grow(by, b"a")
    monkeypatch.setattr("bus.jobs.engine_state._READ_S", 0.0)
    assert (await taken_over(bus, "w2")).increments == []


@pytest.mark.slow
async def test_a_chain_of_ten_megabytes_is_read_in_seconds(bus: Bus) -> None:
    """90 minutes of an engine that keeps 256 bytes for every 133 ms, in a checkpoint every 10 s."""
    _, _, by = await start(bus, tone_job(id="j"))
    data = [bytes([number % 256]) * 19_250 for number in range(540)]
    await grow(by, *data)
    begun_at = time.monotonic()
    async with asyncio.timeout(10):
        claim = await taken_over(bus, "w2")
    assert claim.increments == data
    print(f"read {sum(map(len, data)):,} bytes in {time.monotonic() - begun_at:.2f} s")
