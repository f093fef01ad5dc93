"""The marking of each tenant's audio: one record in the bucket of the API keys."""

import msgspec

from bus.access.record import Record
from bus.errors import Invalid
from bus.jobs.client import Bus
from bus.marking import WHY_NOT_SIGNED, Marking
from bus.subjects import token


class Markings(msgspec.Struct, frozen=True, kw_only=True):
    """The stored record."""

    #: By tenant. Others have the default of the gateway that serves them. A newer version may know more of them.
    tenants: dict[str, str] = {}


class MarkingStore:
    """Reads and changes the record on the bus."""

    def __init__(self, bus: Bus) -> None:
        self._record = Record(bus, Markings, bus.subjects.markings, "the markings of tenants")

    async def all(self) -> dict[str, str]:
        """Return the tenants that have a marking of their own. Raises Unreachable."""
        return (await self._record.find() or Markings()).tenants

    async def set(self, tenant: str, marking: Marking | None) -> None:
        """Give a tenant a marking, None: the default of its gateway; idempotent.

        Raises Invalid for `signed`, and for a tenant that is no subject token; NotPermitted, Conflict, Unreachable,
        Full.
        """
        try:
            token(tenant)
        except ValueError as error:
            raise Invalid(f"tenant: {error}", "tenant") from error
        if marking == "signed":
            raise Invalid(f"marking: {WHY_NOT_SIGNED}", "marking")

        def changed(old: Markings | None) -> Markings:
            tenants = {} if old is None else {name: each for name, each in old.tenants.items() if name != tenant}
            return Markings(tenants=tenants if marking is None else {**tenants, tenant: marking})

        await self._record.change(changed)
