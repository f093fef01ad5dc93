"""A store with damaged files: `antiphon up` says which, has a way on, and lists the jobs that were lost."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bus import wire
from bus.jobs.client import Bus, open_bus
from bus.jobs.submit import submit
from bus.settings import BusSettings
from bus.subjects import JobKey
from ops.errors import UsageRefused
from ops.local import plan as planning
from ops.local.stack import Stack, announce_json, up
from ops.local.store import StoreDamaged
from ops.settings import UpSettings
from tests.support.damage import block_of, cut_in_half, overwrite, stored, stream_folder
from tests.support.jobs import tone_job
from tests.support.log_writer import write_log
from tests.support.stand_in_stack import Running, StandIns, stand_ins

pytestmark = pytest.mark.slow

JOBS, REPLIES = "ANTIPHON_JOBS", "ANTIPHON_REPLIES"


class Filled:
    """The jobs of a store: two are done, four are queued."""

    def __init__(self) -> None:
        self.done: list[JobKey] = []
        self.queued: list[JobKey] = []
        self.queue_seqs: list[int] = []


async def fill(folder: Path) -> Filled:
    filled = Filled()
    async with stored(folder) as bus:
        for number in range(6):
            job = tone_job(id=f"job{number}")
            accepted = await submit(bus, job)
            key = bus.subjects.job_key(job.tenant, job.id)
            filled.queue_seqs.append(accepted.birth.queue_seq)
            if number < 2:
                await write_log(bus, job, 2)
                await bus.js.delete(bus.subjects.jobs_stream, accepted.birth.queue_seq)
                filled.done.append(key)
            else:
                filled.queued.append(key)
    return filled


@pytest.fixture
async def filled(tmp_path: Path) -> Filled:
    return await fill(tmp_path / "state" / "nats")


async def end_of(bus: Bus, key: JobKey) -> tuple[str, str]:
    """(kind, code) of the last entry of a log."""
    tail = await bus.logs.tail(key)
    if tail is None:
        return "", ""
    return tail.kind, wire.decode(wire.Failed, tail.payload).code if tail.kind == "failed" else ""


async def started(plan: StandIns) -> tuple[Running, Stack]:
    plan.set_fleet(plan.workers)
    running = Running(plan)
    return running, await running.stack()


@pytest.mark.parametrize("file", ["meta.inf", "meta.sum"])
@pytest.mark.parametrize("stream", [JOBS, REPLIES])
async def test_a_stream_that_cannot_be_recovered_is_named_at_once_with_its_file_and_the_way_on(
    tmp_path: Path, filled: Filled, stream: str, file: str
) -> None:
    plan = stand_ins(tmp_path)
    folder = stream_folder(plan.nodes[0].folder, stream)
    overwrite(folder / "meta.inf", 20) if file == "meta.inf" else (folder / file).unlink()
    async with asyncio.timeout(30):  # it was a minute
        with pytest.raises(StoreDamaged) as caught:
            await up(plan, asyncio.Event(), lambda *_: None)
    assert all(part in str(caught.value) for part in (stream, str(folder / file), "up --recover", "loses"))
    assert folder.exists()


async def test_recovering_moves_the_stream_aside_and_ends_the_jobs_that_were_lost(
    tmp_path: Path, filled: Filled, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = stand_ins(tmp_path, recover=True)
    folder = stream_folder(plan.nodes[0].folder, JOBS)
    overwrite(folder / "meta.inf", 20)
    blocks = block_of(folder / "msgs")
    content = blocks.read_bytes()
    running, stack = await started(plan)
    assert stack.lost == filled.queued
    capsys.readouterr()
    announce_json(plan, stack)
    line = json.loads(capsys.readouterr().out)
    assert line["lost"] == [{"tenant": "public", "id": key.job} for key in filled.queued]
    (kept,) = (plan.nodes[0].folder / "damaged").iterdir()
    assert (kept / "msgs" / blocks.name).read_bytes() == content
    async with open_bus(BusSettings(nats=plan.nats), "test") as bus:
        assert {await end_of(bus, key) for key in filled.queued} == {("failed", "interrupted")}
        assert {await end_of(bus, key) for key in filled.done} == {("done", "")}
        # Otherwise cancelling one of the jobs above, which ends nothing, would remove the message of this one.
        later = await submit(bus, tone_job())
        assert later.birth.queue_seq > max(filled.queue_seqs)
        for key in (*filled.queued, *filled.done):
            await bus.logs.end(key, wire.End.CANCELLED, "")
        assert await bus.js.at(bus.subjects.jobs_stream, later.birth.queue_seq) is not None
    await running.end()
    running, stack = await started(stand_ins(tmp_path))
    assert stack.lost == []
    await running.end()


@pytest.mark.parametrize("damage", [cut_in_half, lambda path: overwrite(path, path.stat().st_size // 2)])
@pytest.mark.parametrize("has_index", [True, False])
async def test_jobs_that_a_damaged_block_of_the_queue_has_lost_are_ended_and_listed(
    tmp_path: Path, filled: Filled, damage: Callable[[Path], None], has_index: bool
) -> None:
    """nats-server starts on it, says nothing, and may assign the same sequences again."""
    plan = stand_ins(tmp_path)
    folder = stream_folder(plan.nodes[0].folder, JOBS) / "msgs"
    damage(block_of(folder))
    if not has_index:
        (folder / "index.db").unlink()
    running, stack = await started(plan)
    lost = stack.lost
    kept = [key for key in filled.queued if key not in lost]
    assert lost
    async with open_bus(BusSettings(nats=plan.nats), "test") as bus:
        assert {await end_of(bus, key) for key in lost} == {("failed", "interrupted")}
        assert {await end_of(bus, key) for key in kept} <= {("", "")}
        info = await bus.js.info(bus.subjects.jobs_stream)
        assert (info["state"]["messages"], info["state"]["last_seq"]) == (len(kept), max(filled.queue_seqs))
    await running.end()


async def test_without_the_logs_the_queued_jobs_go_on(tmp_path: Path, filled: Filled) -> None:
    plan = stand_ins(tmp_path, recover=True)
    overwrite(stream_folder(plan.nodes[0].folder, REPLIES) / "meta.inf", 20)
    running, stack = await started(plan)
    assert stack.lost == []
    async with open_bus(BusSettings(nats=plan.nats), "test") as bus:
        assert (await bus.js.info(bus.subjects.jobs_stream))["state"]["messages"] == len(filled.queued)
        assert await bus.logs.birth(filled.done[0]) is None
    await running.end()


@pytest.mark.parametrize("damage", [cut_in_half, lambda path: overwrite(path, path.stat().st_size // 2)])
@pytest.mark.parametrize("has_index", [True, False])
async def test_no_job_stays_open_that_no_worker_will_take_whatever_the_logs_have_lost(
    tmp_path: Path, filled: Filled, damage: Callable[[Path], None], has_index: bool
) -> None:
    plan = stand_ins(tmp_path)
    folder = stream_folder(plan.nodes[0].folder, REPLIES) / "msgs"
    damage(block_of(folder))
    if not has_index:
        (folder / "index.db").unlink()
    running, _ = await started(plan)
    async with open_bus(BusSettings(nats=plan.nats), "test") as bus:
        for key in (*filled.done, *filled.queued):
            birth = await bus.logs.birth(key)
            is_queued = birth and await bus.js.at(bus.subjects.jobs_stream, birth.birth.queue_seq)
            assert birth is None or is_queued or (await end_of(bus, key)) in {("done", ""), ("failed", "interrupted")}
        assert (await bus.js.info(bus.subjects.jobs_stream))["state"]["messages"] == len(filled.queued)
    await running.end()


async def test_a_sound_store_loses_nothing_with_and_without_the_flag(tmp_path: Path, filled: Filled) -> None:
    for recover in (False, True):
        plan = stand_ins(tmp_path, recover=recover)
        running, stack = await started(plan)
        assert stack.lost == []
        async with open_bus(BusSettings(nats=plan.nats), "test") as bus:
            assert {await end_of(bus, key) for key in filled.queued} == {("", "")}
        await running.end()
        assert not (plan.nodes[0].folder / "damaged").exists()


def test_a_cluster_recovers_from_its_members_instead(tmp_path: Path) -> None:
    settings = UpSettings(state=str(tmp_path), http_port=0, nats_port=0, models=("tone",), nats_nodes=3, recover=True)
    with pytest.raises(UsageRefused, match=r"^--recover: is for one"):
        planning.plan(settings, None)
