"""`antiphon keys`: make, list, limit and revoke API keys, on the bus itself. Every function raises OpsError."""

from collections.abc import Mapping
from typing import Any

import msgspec

from bus.access.keys import Key, Keys, Limits
from bus.access.link_keys import LinkKeys, LinkKeyStore
from bus.settings import BusSettings
from ops.commands.bus_session import bus_session
from ops.commands.http import run_async
from ops.commands.show import print_fields, print_result, print_table
from ops.errors import UsageRefused

_COLUMNS = ("id", "tenant", "created", "state", "limits")
#: The value that removes a limit.
_NONE = "none"

#: Limits by name, as text; None: not given.
Given = Mapping[str, str | None]


def create(settings: BusSettings, tenant: str, given: Given, *, as_json: bool) -> None:
    """Make a key and print it, this once. Raises UsageRefused for a value that cannot be a limit."""
    key, text = run_async(_create(settings, tenant, _limits(Limits(), given)))
    result = {"id": key.id, "key": text, "tenant": key.tenant}
    print_result(result, lambda: _print_new(result), as_json=as_json)


def show_all(settings: BusSettings, *, as_json: bool) -> None:
    """Print every key with its tenant and limits; never the key itself."""
    result = {"keys": [_view(key) for key in run_async(_all(settings))]}
    print_result(
        result, lambda: print_table(_COLUMNS, [_row(key) for key in result["keys"]], "no keys"), as_json=as_json
    )


def limit(settings: BusSettings, key_id: str, given: Given, *, as_json: bool) -> None:
    """Change the limits that are `given`; the others stay. Raises UsageRefused if there are none."""
    if all(value is None for value in given.values()):
        raise UsageRefused("give at least one limit; `none` removes one")
    result = _view(run_async(_limit(settings, key_id, given)))
    print_result(result, lambda: print_fields(result), as_json=as_json)


def revoke(settings: BusSettings, key_id: str, *, as_json: bool) -> None:
    """End a key for good."""
    result = _view(run_async(_revoke(settings, key_id)))
    print_result(result, lambda: print(f"{result['id']} of {result['tenant']} is revoked"), as_json=as_json)


def rotate_links(settings: BusSettings, *, end_links: bool, as_json: bool) -> None:
    """Sign links with a new secret from now on; with `end_links` those made before open nothing any more."""
    new = run_async(_rotate_links(settings, end_links=end_links)).keys[0]
    result = {"id": new.id, "created_at": msgspec.to_builtins(new.created_at), "ended_links": end_links}
    print_result(result, lambda: print_fields(result), as_json=as_json)


async def _rotate_links(settings: BusSettings, *, end_links: bool) -> LinkKeys:
    async with bus_session(settings) as bus:
        return await LinkKeyStore(bus).rotate(end_links=end_links)


async def _create(settings: BusSettings, tenant: str, limits: Limits) -> tuple[Key, str]:
    async with bus_session(settings) as bus:
        # Gateways may not make it where nats-server has users, and this caller may want a link.
        await LinkKeyStore(bus).ensure()
        return await Keys(bus).create(tenant, limits)


async def _all(settings: BusSettings) -> list[Key]:
    async with bus_session(settings) as bus:
        return await Keys(bus).all()


async def _limit(settings: BusSettings, key_id: str, given: Given) -> Key:
    async with bus_session(settings) as bus:
        keys = Keys(bus)
        return await keys.limit(key_id, _limits((await keys.find(key_id)).limits, given))


async def _revoke(settings: BusSettings, key_id: str) -> Key:
    async with bus_session(settings) as bus:
        return await Keys(bus).revoke(key_id)


def _limits(old: Limits, given: Given) -> Limits:
    """`old` with the limits of `given` in their place. Raises UsageRefused, naming the flag."""
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


def _view(key: Key) -> dict[str, Any]:
    """A key for an operator, without its hash."""
    shown: dict[str, Any] = msgspec.to_builtins(key)
    return {
        "id": key.id,
        "tenant": key.tenant,
        "created_at": shown["created_at"],
        "revoked_at": shown.get("revoked_at"),
        **msgspec.structs.asdict(key.limits),
    }


def _row(result: dict[str, Any]) -> dict[str, Any]:
    """One key on one line of a terminal."""
    limits = [f"{name} {result[name]:g}" for name in Limits.__struct_fields__ if result[name] is not None]
    return {
        "id": result["id"],
        "tenant": result["tenant"],
        "created": result["created_at"][:10],
        "state": f"revoked {result['revoked_at'][:10]}" if result["revoked_at"] else "valid",
        "limits": ", ".join(limits) or None,
    }


def _print_new(result: dict[str, str]) -> None:
    print_fields(result)
    print("\nKeep the key now: it cannot be shown again.")
