"""Audio charged to accounts: the ledger, and jobs that cannot be charged."""

import asyncio
import time

from bus import wire
from bus.jobs.client import Bus, open_bus
from bus.jobs.log import Writer
from bus.settings import BusSettings
from gateway.limits.audio_charges import AudioCharges
from gateway.limits.counted_jobs import CountedJob, CountedJobs
from gateway.limits.pending_charges import PendingCharges
from gateway.limits.reconcile import Reconciler
from gateway.limits.usage_ledger import UsageLedger
from tests.support.bus import start, write
from tests.support.jobs import tone_job


async def test_the_ledger_adds_up_charges_a_job_once_and_outlives_its_writers(bus_settings: BusSettings) -> None:
    async with open_bus(bus_settings, "gateway") as bus:
        ledger = UsageLedger(bus)
        assert await ledger.used_ms("2030-01-01", "key-a") == 0
        assert await ledger.charge("2030-01-01", "key-a", "acme", "j1", 1500) == 1500
        totals = await asyncio.gather(
            *(
                UsageLedger(bus).charge("2030-01-01", "key-a", "acme", job, 700)
                for job in ("j2", "j2", "j3", "j3", "j3")
            )
        )
        assert max(totals) == 2900
        assert await ledger.charge("2030-01-02", "key-a", "acme", "j4", 5) == 5
    async with open_bus(bus_settings, "gateway") as bus:
        assert [await UsageLedger(bus).used_ms("2030-01-01", key) for key in ("key-a", "key-b")] == [2900, 0]


async def test_a_log_without_a_length_does_not_keep_other_jobs_from_being_charged(bus: Bus) -> None:
    ended = []
    for media in ("audio/mpeg", wire.media_type(24_000, 1)):
        _, claim, _ = await start(bus, tone_job(id=f"j{len(ended)}"))
        started = wire.Started(media=media, worker="w1", attempt=1, model="tone", version="v1")
        writer = Writer(bus.logs, claim.key, claim.lease_seq, claim.lease, claim.position, started, 10.0)
        await write(writer, 3, frames=8000)
        await bus.logs.end(claim.key, wire.End.CANCELLED, "by the test")
        ended.append((claim.key.tenant, claim.key.job))
    audio = AudioCharges(bus)
    num_charged = 0

    def count() -> None:
        nonlocal num_charged
        num_charged += 1

    charges = PendingCharges(audio, bus.subjects, count)
    async with asyncio.TaskGroup() as tasks:
        jobs = CountedJobs("me")
        reconciler = Reconciler(bus, jobs, charges, lambda: None, tasks)
        for name in ended:
            jobs.add(CountedJob(name, "key-k", "me", time.monotonic(), 0.0, 1, is_charged=True))
            reconciler.ended(name)
    assert await audio.used_s("key-k") == 1.0
    assert (num_charged, len(charges)) == (1, 0)
