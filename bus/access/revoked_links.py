"""Links that were revoked before their end: one message for each tenant in LINKS, which lives as long as a link may.

A tenant has room for `MAX_REVOKED` at a time, so none takes the room of another.
"""

from typing import Final

import msgspec

from bus import wire
from bus.access.link_keys import MAX_LINK_S
from bus.errors import ApiError, Conflict, TooMany
from bus.jobs.client import Bus
from bus.transport.jetstream import EXPECT_LAST, WRONG_LAST_SEQUENCE, is_missing_stream

#: Revoked links of one tenant that have not ended.
MAX_REVOKED: Final = 1000
_TRIES: Final = 10


class _Revoked(msgspec.Struct, frozen=True, kw_only=True):
    """The stored record: Unix seconds until which a link would live at most, by the link's id."""

    until: dict[str, float] = {}


class RevokedLinks:
    """The revoked links of all tenants, on the bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._stream = bus.subjects.links_stream

    async def has(self, tenant: str, link: str) -> bool:
        """Whether the link was revoked. Raises Unreachable."""
        return link in (await self._find(tenant))[0].until

    async def add(self, tenant: str, link: str) -> None:
        """Revoke a link; idempotent. Raises TooMany for the tenant's limit; Conflict, Unreachable, Full."""
        await self._bus.topology.declare_links()
        for _ in range(_TRIES):
            found, seq = await self._find(tenant)
            if link in found.until:
                return
            now_s = self._bus.clock.now()
            alive = {each: until_s for each, until_s in found.until.items() if until_s > now_s}
            if len(alive) >= MAX_REVOKED:
                raise _too_many(tenant, min(alive.values()) - now_s)
            record = wire.encode(_Revoked(until={**alive, link: now_s + MAX_LINK_S}))
            try:
                await self._bus.js.publish(self._bus.subjects.link(tenant), record, {EXPECT_LAST: str(seq)})
            except ApiError as error:
                if error.err_code != WRONG_LAST_SEQUENCE:
                    raise
                continue  # another process was first, or it was our own publish whose acknowledgement was lost
            return
        raise Conflict(f"the links of {tenant!r} were changed by other processes {_TRIES} times meanwhile")

    async def _find(self, tenant: str) -> tuple[_Revoked, int]:
        """The tenant's record, and the sequence of its message; 0 without one."""
        try:
            stored = await self._bus.js.last(self._stream, self._bus.subjects.link(tenant))
        except ApiError as error:
            if not is_missing_stream(error):
                raise
            stored = None
        return (_Revoked(), 0) if stored is None else (wire.decode(_Revoked, stored.message.data), stored.seq)


def _too_many(tenant: str, retry_after_s: float) -> TooMany:
    error = TooMany(f"tenant {tenant} has revoked {MAX_REVOKED} links that have not ended, which is the most")
    error.limit = "revoked_links"
    error.scope = "tenant"
    error.allowed = float(MAX_REVOKED)
    error.retry_after_s = retry_after_s
    return error
