"""`antiphon keys`: make, list, limit and revoke API keys, on the bus itself."""

from collections.abc import Mapping
from typing import Any

import msgspec

from bus.access.keys import Key, Keys, Limits
from bus.settings import BusSettings
from ops.commands.http import wait_for
from ops.commands.show import fields, print_told, table
from ops.commands.visit import visit
from ops.errors import UsageRefused

_COLUMNS = ("id", "tenant", "created", "state", "limits")
#: Takes a limit away again.
_NONE = "none"

Given = Mapping[str, str | None]


def create(settings: BusSettings, tenant: str, given: Given, *, as_json: bool) -> None:
    """Make a key and print it, this once. Raises OpsError, like all here, and UsageRefused for a limit that is none."""
    key, text = wait_for(_create(settings, tenant, _limits(Limits(), given)))
    told = {"id": key.id, "key": text, "tenant": key.tenant}
    print_told(told, lambda: _print_new(told), as_json=as_json)


def show_all(settings: BusSettings, *, as_json: bool) -> None:
    told = {"keys": [_told(key) for key in wait_for(_all(settings))]}
    print_told(told, lambda: table(_COLUMNS, [_row(key) for key in told["keys"]], "no keys"), as_json=as_json)


def limit(settings: BusSettings, key_id: str, given: Given, *, as_json: bool) -> None:
    """Change those limits that are `given`; the others stay."""
    if all(value is None for value in given.values()):
        raise UsageRefused("say at least one limit; `none` takes one away")
    told = _told(wait_for(_limit(settings, key_id, given)))
    print_told(told, lambda: fields(told), as_json=as_json)


def revoke(settings: BusSettings, key_id: str, *, as_json: bool) -> None:
    told = _told(wait_for(_revoke(settings, key_id)))
    print_told(told, lambda: print(f"{told['id']} of {told['tenant']} is revoked"), as_json=as_json)


async def _create(settings: BusSettings, tenant: str, limits: Limits) -> tuple[Key, str]:
    async with visit(settings) as bus:
        return await Keys(bus).create(tenant, limits)


async def _all(settings: BusSettings) -> list[Key]:
    async with visit(settings) as bus:
        return await Keys(bus).all()


async def _limit(settings: BusSettings, key_id: str, given: Given) -> Key:
    async with visit(settings) as bus:
        keys = Keys(bus)
        return await keys.limit(key_id, _limits((await keys.find(key_id)).limits, given))


async def _revoke(settings: BusSettings, key_id: str) -> Key:
    async with visit(settings) as bus:
        return await Keys(bus).revoke(key_id)


def _limits(old: Limits, given: Given) -> Limits:
    """`old` with those that are given in place. Raises UsageRefused, naming the flag."""
    values: dict[str, Any] = msgspec.structs.asdict(old)
    for name, text in given.items():
        if text is None:
            continue
        try:
            one = msgspec.convert({} if text == _NONE else {name: text}, Limits, strict=False)
        except msgspec.ValidationError as error:
            reason = str(error).partition(" - at ")[0].partition(", got ")[0].replace(" | null", "")
            raise UsageRefused(f"--{name.replace('_', '-')}: {text[:80]!r}: {reason}, or `none`") from error
        values[name] = getattr(one, name)
    return Limits(**values)


def _told(key: Key) -> dict[str, Any]:
    """A key for an operator's eyes; its hash is for nobody's."""
    shown: dict[str, Any] = msgspec.to_builtins(key)
    return {
        "id": key.id,
        "tenant": key.tenant,
        "created_at": shown["created_at"],
        "revoked_at": shown.get("revoked_at"),
        **msgspec.structs.asdict(key.limits),
    }


def _row(told: dict[str, Any]) -> dict[str, Any]:
    """One key on one line of a terminal."""
    limits = [f"{name} {told[name]:g}" for name in Limits.__struct_fields__ if told[name] is not None]
    return {
        "id": told["id"],
        "tenant": told["tenant"],
        "created": told["created_at"][:10],
        "state": f"revoked {told['revoked_at'][:10]}" if told["revoked_at"] else "valid",
        "limits": ", ".join(limits) or None,
    }


def _print_new(told: dict[str, str]) -> None:
    fields(told)
    print("\nKeep the key now: nobody can show it again.")
