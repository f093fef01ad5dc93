"""`antiphon dead`: look at what was given up on, try it once more, or drop it."""

from bus.jobs.dead_letters import DeadLetter, DeadLetters
from bus.settings import BusSettings
from ops.commands.http import wait_for
from ops.commands.show import fields, print_told, table
from ops.commands.visit import visit

_COLUMNS = ("id", "tenant", "buried_at", "attempts", "worker", "reason")


def show_all(settings: BusSettings, limit: int, *, as_json: bool) -> None:
    """Raises OpsError, like all here."""
    letters = wait_for(_newest(settings, limit))
    told = {"dead": [letter.told() for letter in letters]}
    print_told(told, lambda: table(_COLUMNS, told["dead"], "no dead letters"), as_json=as_json)


def show(settings: BusSettings, job: str, tenant: str | None, *, as_json: bool) -> None:
    told = wait_for(_find(settings, job, tenant)).told()
    print_told(told, lambda: fields(told), as_json=as_json)


def retry(settings: BusSettings, job: str, tenant: str | None, *, as_json: bool) -> None:
    told = wait_for(_retry(settings, job, tenant))
    print_told(told, lambda: print(f"{told['retry_of']} is queued anew as {told['id']}"), as_json=as_json)


def drop(settings: BusSettings, job: str, tenant: str | None, *, as_json: bool) -> None:
    told = wait_for(_drop(settings, job, tenant))
    print_told(told, lambda: print(f"{told['id']} is dropped"), as_json=as_json)


async def _newest(settings: BusSettings, limit: int) -> list[DeadLetter]:
    async with visit(settings) as bus:
        return await DeadLetters(bus).newest(limit)


async def _find(settings: BusSettings, job: str, tenant: str | None) -> DeadLetter:
    async with visit(settings) as bus:
        return await DeadLetters(bus).find(job, tenant)


async def _retry(settings: BusSettings, job: str, tenant: str | None) -> dict[str, str]:
    async with visit(settings) as bus:
        letters = DeadLetters(bus)
        again = await letters.retry(await letters.find(job, tenant))
        return {"id": again.id, "retry_of": again.retry_of, "tenant": again.tenant}


async def _drop(settings: BusSettings, job: str, tenant: str | None) -> dict[str, str]:
    async with visit(settings) as bus:
        letters = DeadLetters(bus)
        letter = await letters.find(job, tenant)
        await letters.drop(letter)
        return {"id": letter.job, "tenant": letter.tenant}
