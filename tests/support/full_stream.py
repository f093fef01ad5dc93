"""REPLIES filled to its last byte."""

from bus.errors import Full
from bus.jobs.client import Bus
from bus.jobs.entry import KIND, NEXT, Position
from bus.jobs.submit import submit
from bus.subjects import JobKey
from tests.support.bus import key_of
from tests.support.jobs import tone_job


async def fill(bus: Bus) -> JobKey:
    """Fill REPLIES with the log of a job of another tenant, until no message of any size fits."""
    job = tone_job(tenant="other")
    await submit(bus, job)
    key = key_of(bus, job)
    for size in (60_000, 1_000, 100, 1):
        try:
            while True:
                await bus.js.publish(key.entries, bytes(size), {KIND: "block", NEXT: Position(1, 1).header()})
        except Full:
            pass
    return key


async def empty(bus: Bus, key: JobKey) -> None:
    """Remove the log that `fill` made."""
    await bus.js.api(f"STREAM.PURGE.{bus.subjects.replies_stream}", {"filter": key.everything})
