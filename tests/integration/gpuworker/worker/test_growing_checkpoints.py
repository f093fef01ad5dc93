"""A job whose engine makes growing checkpoints goes on from all of them, through the bus and the pipe to the host."""

import asyncio
from pathlib import Path

import pytest

from bus import wire
from bus.jobs.client import Bus
from tests.support.bus import entries, key_of, kinds, until
from tests.support.jobs import listen, tone_job
from tests.support.programs import Fleet
from tests.support.tone import tone_pcm


async def check(bus: Bus, door: Path, num_bytes: int, at_block: int) -> None:
    """The host dies at a block, once the checkpoints before it are stored; they may be later than their audio.

    `tone` fails a job whose checkpoints are not those of blocks that follow each other.
    """
    job = tone_job(
        seconds=(at_block + 6) / 10,
        block_ms=100,
        checkpoint_bytes=num_bytes,
        fault={"kind": "exit", "at_block": at_block},
        gate={"path": str(door), "before_block": at_block},
    )

    async def is_stored() -> bool:
        return kinds(await entries(bus, key_of(bus, job))).count("checkpoint") == at_block

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        listening = group.create_task(listen(bus, job))
        await until(is_stored, within_s=50)
        door.touch()
    received = listening.result()
    assert received.pcm == tone_pcm((at_block + 6) / 10)
    assert [start.attempt for start in received.starts] == [1, 2]
    stored = await entries(bus, key_of(bus, job))
    assert wire.decode(wire.Done, stored[-1].payload).engine == {"increments": at_block}, "given to the last attempt"
    log = [entry for entry in stored if entry.kind == "checkpoint"]
    made = [wire.decode(wire.Checkpoint, entry.payload).data for entry in log]
    assert [int(data.split()[0]) for data in made] == list(range(at_block + 6)), "the second attempt began at 0"
    assert {len(data) for data in made} == {num_bytes}
    assert log[-1].position.chain.entries == at_block + 6


async def test_a_replacement_goes_on_from_all_growing_checkpoints(fleet: Fleet, bus: Bus, tmp_path: Path) -> None:
    fleet.worker("w1", "tone", 2)
    await check(bus, tmp_path / "door", 16, 20)


@pytest.mark.slow
async def test_a_replacement_goes_on_from_ten_megabytes_of_growing_checkpoints(
    fleet: Fleet, bus: Bus, tmp_path: Path
) -> None:
    fleet.worker("w1", "tone", 2)
    await check(bus, tmp_path / "door", 400_000, 26)


async def test_a_checkpoint_of_the_largest_size_passes_through_the_bus(fleet: Fleet, bus: Bus, tmp_path: Path) -> None:
    fleet.worker("w1", "tone", 2)
    await check(bus, tmp_path / "door", 512 << 10, 2)
