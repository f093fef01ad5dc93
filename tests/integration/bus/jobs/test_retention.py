"""Room in the streams: ended logs go first, new jobs are refused next, and running jobs are never hurt (rule 15)."""

from typing import Any

import pytest

from bus import wire
from bus.errors import StorageFull
from bus.jobs.client import Bus
from bus.jobs.entry import KIND, NEXT, Position
from bus.jobs.retention import REFUSE_ABOVE, Retention
from bus.jobs.submit import submit
from bus.settings import BusSettings
from bus.subjects import JobKey
from tests.support.clocks import shifted
from tests.support.jobs import tone_job

LIMIT_BYTES = 4 << 20
#: Every ended log counts as rested: the bus's clock is an estimate, and a recent end may seem to lie ahead of it.
NO_REST_S = -60.0


@pytest.fixture
def bus_settings(nats_url: str, root: str) -> BusSettings:
    return BusSettings(nats=nats_url, root=root, jobs_max_bytes=1 << 20, replies_max_bytes=LIMIT_BYTES)


async def write_log(bus: Bus, size_bytes: int, *, ended: bool) -> JobKey:
    """A job's log of about `size_bytes`, written by hand."""
    job = tone_job()
    await submit(bus, job)
    key = bus.subjects.job_key(job.tenant, job.id)
    headers = {KIND: "block", NEXT: Position(1, 1).header()}
    for number in range(max(1, size_bytes // 65_536)):
        await bus.js.publish(key.entries, bytes(65_000), {**headers, "Nats-Msg-Id": f"{job.id}.{number}"})
    if ended:
        await bus.logs.end(key, wire.End.CANCELLED, "test")
    return key


async def exists(bus: Bus, key: JobKey) -> bool:
    return await bus.logs.birth(key) is not None


async def level(bus: Bus) -> float:
    return float((await bus.js.info(bus.subjects.replies_stream))["state"]["bytes"]) / LIMIT_BYTES


async def test_rule_15_above_70_percent_whole_ended_logs_are_purged_oldest_first(bus: Bus) -> None:
    retention = Retention(bus, rest_s=NO_REST_S)
    running = await write_log(bus, 256 << 10, ended=False)
    logs = [await write_log(bus, 64 << 10, ended=True) for _ in range(50)]
    assert await level(bus) > 0.7
    await retention.look()
    assert await level(bus) < 0.7
    kept = [await exists(bus, key) for key in logs]
    assert kept == sorted(kept), "the oldest go first"
    assert kept.count(False) >= 1
    assert await exists(bus, running)
    assert await bus.logs.tail(running) is not None
    for key in (key for key, there in zip(logs, kept, strict=True) if not there):
        assert await bus.logs.lease(key) is None
        assert await bus.logs.tail(key) is None


@pytest.mark.parametrize(("shift_s", "is_purged"), [(0.0, False), (86_400.0, True), (-86_400.0, True)])
async def test_logs_are_purged_whichever_way_the_servers_clock_is_set(
    bus: Bus, shift_s: float, is_purged: bool
) -> None:
    """Set back, it has stored the ends of logs in its own future."""
    bus, clock = shifted(bus)
    logs = [await write_log(bus, 64 << 10, ended=True) for _ in range(50)]
    clock.shift_s = shift_s
    await Retention(bus, rest_s=3600).look()
    assert (await exists(bus, logs[0])) is not is_purged


async def test_rule_15_below_70_percent_nothing_is_touched(bus: Bus) -> None:
    logs = [await write_log(bus, 64 << 10, ended=True) for _ in range(20)]
    await Retention(bus, rest_s=NO_REST_S).look()
    assert all([await exists(bus, key) for key in logs])


async def test_logs_that_grow_too_old_go_as_a_whole_before_the_server_takes_them_apart(bus: Bus) -> None:
    bus, clock = shifted(bus)
    old, running = await write_log(bus, 64 << 10, ended=True), await write_log(bus, 64 << 10, ended=False)
    retention = Retention(bus, rest_s=NO_REST_S)
    clock.shift_s += 0.94 * bus.settings.replies_max_age_s
    await retention.look()
    assert await exists(bus, old)
    clock.shift_s += 0.02 * bus.settings.replies_max_age_s
    await retention.look()
    assert await exists(bus, running)
    assert not await exists(bus, old)
    assert (await bus.logs.lease(old), await bus.logs.tail(old)) == (None, None)


async def test_a_log_born_again_while_a_second_gateway_purges_the_old_one_stays(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus, clock = shifted(bus)
    job = tone_job()
    await submit(bus, job)
    key = bus.subjects.job_key(job.tenant, job.id)
    assert await bus.logs.end(key, wire.End.CANCELLED, "test") == "cancelled"
    clock.shift_s += 0.96 * bus.settings.replies_max_age_s
    slow, quick, api = Retention(bus, rest_s=NO_REST_S), Retention(bus, rest_s=NO_REST_S), bus.js.api

    async def overtaken(subject: str, body: object = None, timeout_s: float | None = None) -> dict[str, Any]:
        if "PURGE" in subject:
            monkeypatch.setattr(bus.js, "api", api)
            await quick.look()
            assert not await exists(bus, key)
            assert (await submit(bus, job)).is_new
        return await api(subject, body, timeout_s)

    monkeypatch.setattr(bus.js, "api", overtaken)
    await slow.look()
    assert await exists(bus, key), "it was accepted"


async def test_a_lease_behind_the_end_goes_with_its_log(bus: Bus) -> None:
    bus, clock = shifted(bus)
    key = await write_log(bus, 0, ended=True)
    seq, lease = await bus.logs.lease(key) or (0, None)
    assert lease is not None
    await bus.logs.take(key, lease, seq)
    clock.shift_s += 0.96 * bus.settings.replies_max_age_s
    await Retention(bus, rest_s=NO_REST_S).look()
    assert (await exists(bus, key), await bus.logs.lease(key), await bus.logs.tail(key)) == (False, None, None)


async def test_a_log_that_ended_just_now_is_left_to_its_readers(bus: Bus) -> None:
    logs = [await write_log(bus, 64 << 10, ended=True) for _ in range(50)]
    await Retention(bus, rest_s=3600.0).look()
    assert all([await exists(bus, key) for key in logs])


async def test_rule_15_above_85_percent_new_jobs_are_refused_with_stream_level_and_limit(bus: Bus) -> None:
    retention = Retention(bus, rest_s=NO_REST_S)
    retention.check_room()
    running = await write_log(bus, int(LIMIT_BYTES * (REFUSE_ABOVE + 0.03)), ended=False)
    await retention.look()
    with pytest.raises(StorageFull, match=rf"{bus.subjects.replies_stream} is 8\d% full, new jobs are taken up to 85%"):
        retention.check_room()
    await bus.logs.end(running, wire.End.CANCELLED, "test")
    await retention.look()
    assert await level(bus) < REFUSE_ABOVE
    retention.check_room()
