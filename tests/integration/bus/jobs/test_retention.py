"""Room in the streams: ended logs go first, new jobs are refused next, and running jobs are never hurt (rule 15)."""

import asyncio
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

pytestmark = pytest.mark.slow

LIMIT_BYTES = 4 << 20
#: Every ended log counts as rested: the bus's clock is an estimate, and a recent end may seem to lie ahead of it.
NO_REST_S = -60.0


@pytest.fixture
def bus_settings(nats_url: str, root: str) -> BusSettings:
    return BusSettings(nats=nats_url, root=root, jobs_max_bytes=1 << 20, replies_max_bytes=LIMIT_BYTES)


async def write_log(bus: Bus, size_bytes: int, *, ended: bool, tenant: str = "public") -> JobKey:
    """A job's log of about `size_bytes`, written by hand."""
    job = tone_job(tenant=tenant)
    await submit(bus, job)
    key = bus.subjects.job_key(job.tenant, job.id)
    for number in range(max(1, size_bytes // 65_536)):
        headers = {KIND: "block", NEXT: Position(number + 1, (number + 1) * 32_500).header()}
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


async def test_rule_15_above_85_percent_new_jobs_are_refused_with_stream_bytes_and_limit(bus: Bus) -> None:
    bus, clock = shifted(bus)
    retention = Retention(bus, rest_s=NO_REST_S)
    assert not retention.is_full
    running = await write_log(bus, int(LIMIT_BYTES * (REFUSE_ABOVE + 0.03)), ended=False)
    await retention.look()
    assert retention.is_full
    with pytest.raises(
        StorageFull, match=rf"{bus.subjects.replies_stream} is 8\d% full: [\d,]+ of {LIMIT_BYTES:,} bytes"
    ):
        retention.check_room("public", 1000, {})
    await bus.logs.end(running, wire.End.CANCELLED, "test")
    clock.shift_s += 4.0  # a log that had not ended is not read again at once
    await retention.look()
    assert await level(bus) < REFUSE_ABOVE
    assert not retention.is_full


async def test_above_85_percent_a_tenant_with_less_than_an_equal_part_is_served(bus: Bus) -> None:
    size = int(LIMIT_BYTES * (REFUSE_ABOVE + 0.03))
    await write_log(bus, size, ended=False, tenant="loud")
    retention = Retention(bus)
    await retention.look()
    assert retention.is_full
    reserved = {"loud": float(size)}
    retention.check_room("quiet", 1000, reserved)
    with pytest.raises(StorageFull, match=r"[\d,]+ of them tenant loud's; this job may need 1,000 more.* equal part"):
        retention.check_room("loud", 1000, reserved)
    with pytest.raises(StorageFull, match=r"new jobs are taken up to 95%, and this one may need"):
        retention.check_room("quiet", LIMIT_BYTES // 10, reserved)


async def test_a_flood_of_one_tenant_purges_its_own_logs_and_no_older_one_of_another(bus: Bus) -> None:
    recording = await write_log(bus, 512 << 10, ended=True, tenant="quiet")
    flood = [await write_log(bus, 64 << 10, ended=True, tenant="loud") for _ in range(45)]
    assert await level(bus) > 0.7
    retention = Retention(bus, rest_s=NO_REST_S)
    await retention.look()
    assert await level(bus) < 0.7
    assert await exists(bus, recording)
    for _ in range(3):
        flood += [await write_log(bus, 64 << 10, ended=True, tenant="loud") for _ in range(20)]
        await retention.look()
        assert await level(bus) < 0.7
    assert await exists(bus, recording)
    assert await exists(bus, flood[-1])


async def test_one_that_has_the_most_pays_until_another_has(bus: Bus) -> None:
    logs = {
        tenant: [await write_log(bus, 64 << 10, ended=True, tenant=tenant) for _ in range(num)]
        for tenant, num in (("a", 30), ("b", 24))
    }
    await Retention(bus, rest_s=NO_REST_S).look()
    left = {tenant: sum([await exists(bus, key) for key in keys]) for tenant, keys in logs.items()}
    assert await level(bus) < 0.7
    assert abs(left["a"] - left["b"]) <= 1


async def test_above_85_percent_a_log_rests_for_five_seconds_instead_of_thirty(bus: Bus) -> None:
    bus, clock = shifted(bus)
    logs = [await write_log(bus, 64 << 10, ended=True) for _ in range(50)]
    retention = Retention(bus)
    clock.shift_s += 15.0
    await retention.look()
    assert all([await exists(bus, key) for key in logs]), "below 85 %"
    logs += [await write_log(bus, 64 << 10, ended=True) for _ in range(6)]
    assert await level(bus) > REFUSE_ABOVE
    await retention.look()
    assert not await exists(bus, logs[0])
    assert await level(bus) < REFUSE_ABOVE


async def test_a_log_that_never_ends_is_not_read_in_every_pass(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    bus, clock = shifted(bus)
    waiting = [await write_log(bus, 0, ended=False) for _ in range(20)]
    ended = await write_log(bus, 0, ended=True)
    clock.shift_s += 0.96 * bus.settings.replies_max_age_s
    retention, last, reads = Retention(bus, rest_s=NO_REST_S), bus.js.last, []

    async def counted(stream: str, subject: str) -> object:
        reads.append(subject)
        return await last(stream, subject)

    monkeypatch.setattr(bus.js, "last", counted)
    await retention.look()
    assert not await exists(bus, ended)
    reads.clear()
    for _ in range(5):
        await retention.look()
    assert reads == []
    clock.shift_s += 11.0
    await retention.look()
    assert sorted(reads) == sorted(key.entries for key in waiting), "once each"
    for key in waiting[:3]:
        await bus.logs.end(key, wire.End.CANCELLED, "test")
    clock.shift_s += 11.0
    await retention.look()
    assert [await exists(bus, key) for key in waiting[:4]] == [False, False, False, True]


async def test_logs_that_another_gateway_has_purged_do_not_count(bus: Bus) -> None:
    logs = [await write_log(bus, 64 << 10, ended=True) for _ in range(50)]
    first, second = Retention(bus, rest_s=NO_REST_S), Retention(bus, rest_s=NO_REST_S)
    await asyncio.gather(first.look(), second.look())
    assert 0.5 < await level(bus) < 0.7
    kept = sum([await exists(bus, key) for key in logs])
    other = [await write_log(bus, 64 << 10, ended=True, tenant="other") for _ in range(53 - kept)]
    await second.look()
    assert await level(bus) < 0.7
    assert len(other) < kept
    assert all([await exists(bus, key) for key in other])
