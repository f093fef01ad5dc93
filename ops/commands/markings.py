"""`antiphon keys marking`: how the audio of each tenant is marked as synthetic. Every function raises OpsError."""

from typing import Final

from bus.access.markings import MarkingStore
from bus.marking import MARKINGS, WHY_NOT_SIGNED, Marking
from bus.settings import BusSettings
from ops.commands.bus_session import bus_session
from ops.commands.http import run_async
from ops.commands.show import print_fields, print_result, print_table
from ops.errors import UsageRefused

#: Stands for the marking of the gateway that serves the tenant.
_DEFAULT: Final = "default"


def set_marking(settings: BusSettings, tenant: str, policy: str | None, *, as_json: bool) -> None:
    """Give a tenant a marking of its own, or `default`. Raises UsageRefused for one that is not possible."""
    marking = _read(policy)
    run_async(_set(settings, tenant, marking))
    result = {"tenant": tenant, "marking": marking or _DEFAULT}
    print_result(result, lambda: print_fields(result), as_json=as_json)


def show_all(settings: BusSettings, *, as_json: bool) -> None:
    """Print the tenants that have a marking of their own."""
    found = run_async(_all(settings))
    rows = [{"tenant": tenant, "marking": marking} for tenant, marking in sorted(found.items())]
    print_result(
        {"markings": rows},
        lambda: print_table(("tenant", "marking"), rows, "no tenant has a marking of its own"),
        as_json=as_json,
    )


def _read(policy: str | None) -> Marking | None:
    if policy == _DEFAULT:
        return None
    found = next((each for each in MARKINGS if each == policy), None)
    if found == "signed":
        raise UsageRefused(WHY_NOT_SIGNED)
    if found is None:
        possible = ", ".join([*(each for each in MARKINGS if each != "signed"), _DEFAULT])
        given = "none was given" if policy is None else f"not {policy[:80]!r}"
        raise UsageRefused(f"a marking must be one of {possible}; {given}")
    return found


async def _set(settings: BusSettings, tenant: str, marking: Marking | None) -> None:
    async with bus_session(settings) as bus:
        await MarkingStore(bus).set(tenant, marking)


async def _all(settings: BusSettings) -> dict[str, str]:
    async with bus_session(settings) as bus:
        return await MarkingStore(bus).all()
