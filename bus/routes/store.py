"""How an operator lists and changes routes. Each change is a message of the bucket, which is so the history too."""

from datetime import UTC, datetime
from typing import Final

import msgspec

from bus import wire
from bus.errors import ApiError, Conflict, Invalid, NotFound
from bus.jobs.client import Bus
from bus.params import short
from bus.route_names import RouteNames
from bus.routes.route import BY_SESSION, Change, Route, Target, check, check_targets, read
from bus.transport.bucket import entries
from bus.transport.jetstream import EXPECT_LAST, WRONG_LAST_SEQUENCE

#: Changes of one route that are kept: the most that NATS' KV keeps of a key.
HISTORY: Final = 64
#: Tries of one change before it gives up because of concurrent changes.
_TRIES: Final = 10


class RouteStore:
    """The routes of a deployment. Changes need a connection that may write the bucket.

    All methods raise Unreachable and NotPermitted; those that change a route also Conflict, Full and Invalid.
    """

    def __init__(self, bus: Bus, author: str) -> None:
        """`author`: who makes the changes, for the history."""
        self._bus = bus
        self._author = author
        self._names = RouteNames(bus.subjects.root)

    async def all(self) -> list[Route]:
        """Every route in force, by name; none if there is no bucket."""
        kept, _ = await self._read(self._names.everything)
        last = {route.name: route for route in kept}
        return sorted((route for route in last.values() if route.targets), key=lambda route: route.name)

    async def history(self, name: str) -> list[Route]:
        """The last `HISTORY` changes of a route, oldest first. Raises NotFound if it never existed."""
        return (await self._kept(name))[0]

    async def find(self, name: str) -> Route:
        """The route in force. Raises NotFound."""
        return _in_force(await self.history(name))

    async def set(self, name: str, targets: list[Target], sticky: str = BY_SESSION, why: str = "") -> Route:
        """Make or replace a route. Creates the bucket if needed."""
        route = Route(name=name, targets=targets, sticky=sticky, change=self._change(1, why))
        check(route)
        check_targets(targets)
        await self._bus.topology.declare_bucket("routes")
        for _ in range(_TRIES):
            kept, seq = await self._read(self._subject(name))
            revision = kept[-1].change.revision + 1 if kept else 1
            route = msgspec.structs.replace(route, change=self._change(revision, why))
            if await self._put(route, seq):
                return route
        raise _changed_by_others(name)

    async def remove(self, name: str, why: str = "") -> Route:
        """End a route; its history stays. Raises NotFound if none is in force."""
        for _ in range(_TRIES):
            kept, seq = await self._kept(name)
            last = _in_force(kept)
            route = Route(name=name, sticky=last.sticky, change=self._change(last.change.revision + 1, why))
            check(route)
            if await self._put(route, seq):
                return route
        raise _changed_by_others(name)

    async def undo(self, name: str, to: int | None = None, why: str = "") -> Route:
        """Restore the revision `to`, or the one before the present; undone again, the one before that.

        Raises NotFound if that revision is not kept.
        """
        for _ in range(_TRIES):
            kept, seq = await self._kept(name)
            restored = _restored(kept, to)
            change = self._change(kept[-1].change.revision + 1, why, restores=restored.change.revision)
            route = msgspec.structs.replace(restored, change=change)
            check(route)
            if await self._put(route, seq):
                return route
        raise _changed_by_others(name)

    def _change(self, revision: int, why: str, restores: int | None = None) -> Change:
        at = datetime.fromtimestamp(round(self._bus.clock.now(), 3), UTC)
        return Change(revision=revision, at=at, by=self._author, why=why, restores=restores)

    def _subject(self, name: str) -> str:
        try:
            return self._names.route(name)
        except ValueError as error:
            raise Invalid(f"name: {error}", "name") from error

    async def _kept(self, name: str) -> tuple[list[Route], int]:
        """As `_read`, of one route. Raises NotFound without a record."""
        kept, seq = await self._read(self._subject(name))
        if not kept:
            raise NotFound(f"no route {short(name)!r}")
        return kept, seq

    async def _read(self, subject: str) -> tuple[list[Route], int]:
        """The records of `subject`, oldest first, and the sequence of its last message, which may be none; 0 without.

        A replica may be behind: a change on that basis fails, and is tried again.
        """
        kept, seq = list[Route](), 0
        async for stored in entries(self._bus.js, self._names.stream, subject):
            seq = stored.seq
            if (route := read(stored, self._names.prefix)) is not None:
                kept.append(route)
        return kept, seq

    async def _put(self, route: Route, expected_seq: int) -> bool:
        """Store the record if the last sequence of its route is `expected_seq`.

        Returns False if another one is stored meanwhile; that may be our own, if its acknowledgement was lost.
        """
        try:
            headers = {EXPECT_LAST: str(expected_seq)}
            await self._bus.js.publish(self._subject(route.name), wire.encode(route), headers)
        except ApiError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise
            return False
        return True


def _in_force(kept: list[Route]) -> Route:
    """The last record. Raises NotFound if it says that the route was removed."""
    route = kept[-1]
    if not route.targets:
        raise NotFound(f"no route {short(route.name)!r}: it was removed in revision {route.change.revision}")
    return route


def _restored(kept: list[Route], to: int | None) -> Route:
    """The record of the revision to restore, among those that are kept, oldest first. Raises NotFound."""
    last, first = kept[-1], kept[0]
    known = f"revisions {first.change.revision} to {last.change.revision} of {last.name} are kept"
    if to is not None:
        for route in kept:
            if route.change.revision == to:
                return route
        raise NotFound(f"revision: {to} is none of those kept; {known}")
    since = last.change.revision if last.change.restores is None else last.change.restores
    before = [route for route in kept if route.change.revision < since]
    if before:
        return before[-1]
    if since == 1:  # before the first change there was no route
        nothing = msgspec.structs.replace(first.change, revision=0)
        return Route(name=last.name, change=nothing)
    raise NotFound(f"route {last.name} has nothing to undo; {known}" if since else f"route {last.name}: all is undone")


def _changed_by_others(name: str) -> Conflict:
    return Conflict(f"route {name!r} was changed by other processes {_TRIES} times meanwhile")
