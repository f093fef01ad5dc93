"""`antiphon dead`: list, show, retry and drop dead letters. Every function raises OpsError."""

import msgspec

from bus.blobs.held_inputs import HeldInputs
from bus.blobs.store import BlobStore
from bus.errors import Malformed
from bus.jobs.client import Bus
from bus.jobs.dead_letters import DeadLetter, DeadLetters
from bus.settings import BusSettings
from bus.wire import Job, decode
from ops.commands.bus_session import bus_session
from ops.commands.http import run_async
from ops.commands.show import print_fields, print_result, print_table

_COLUMNS = ("id", "tenant", "buried_at", "attempts", "worker", "reason")


def show_all(settings: BusSettings, limit: int, *, as_json: bool) -> None:
    """Print the newest dead letters, at most `limit`."""
    letters = run_async(_newest(settings, limit))
    result = {"dead": [letter.view() for letter in letters]}
    print_result(result, lambda: print_table(_COLUMNS, result["dead"], "no dead letters"), as_json=as_json)


def show(settings: BusSettings, job: str, tenant: str | None, *, as_json: bool) -> None:
    """Print one dead letter with its reason and its job."""
    result = run_async(_find(settings, job, tenant)).view()
    print_result(result, lambda: print_fields(result), as_json=as_json)


def retry(settings: BusSettings, job: str, tenant: str | None, *, as_json: bool) -> None:
    """Queue the job of a dead letter again, under a new id, and remove the letter."""
    result = run_async(_retry(settings, job, tenant))
    print_result(result, lambda: print(f"{result['retry_of']} is queued again as {result['id']}"), as_json=as_json)


def drop(settings: BusSettings, job: str, tenant: str | None, *, as_json: bool) -> None:
    """Remove a dead letter; the log of its job stays."""
    result = run_async(_drop(settings, job, tenant))
    print_result(result, lambda: print(f"{result['id']} is dropped"), as_json=as_json)


async def _newest(settings: BusSettings, limit: int) -> list[DeadLetter]:
    async with bus_session(settings) as bus:
        return await DeadLetters(bus).newest(limit)


async def _find(settings: BusSettings, job: str, tenant: str | None) -> DeadLetter:
    async with bus_session(settings) as bus:
        return await DeadLetters(bus).find(job, tenant)


async def _retry(settings: BusSettings, job: str, tenant: str | None) -> dict[str, str]:
    async with bus_session(settings) as bus:
        letters = DeadLetters(bus)
        letter = await letters.find(job, tenant)
        await _hold_inputs(bus, letter)
        again = await letters.retry(letter)
        return {"id": again.id, "retry_of": again.retry_of, "tenant": again.tenant}


async def _hold_inputs(bus: Bus, letter: DeadLetter) -> None:
    """Keep the files that the job names. Raises Invalid for one that is gone."""
    try:
        job = decode(Job, letter.dead.payload)
    except Malformed:
        return  # `retry` says why
    if job.inputs:
        held = msgspec.structs.replace(job, tenant=letter.tenant, expires_at=None)
        await HeldInputs(BlobStore(bus), bus.clock).hold(held)


async def _drop(settings: BusSettings, job: str, tenant: str | None) -> dict[str, str]:
    async with bus_session(settings) as bus:
        letters = DeadLetters(bus)
        letter = await letters.find(job, tenant)
        await letters.drop(letter)
        return {"id": letter.job, "tenant": letter.tenant}
