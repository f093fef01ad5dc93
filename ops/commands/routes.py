"""`antiphon route`: list and change routes, on the bus itself. Every function raises OpsError."""

import asyncio
import getpass
import platform
import sys
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, TypeVar

import msgspec

from bus.errors import Invalid
from bus.fleet.fleet import Fleet
from bus.jobs.client import Bus
from bus.lifetime import background_tasks
from bus.params import short
from bus.routes.route import Route, Target, check_targets
from bus.routes.store import RouteStore
from bus.settings import BusSettings
from bus.text import suggestion
from ops.commands.bus_session import bus_session
from ops.commands.http import run_async
from ops.commands.show import print_fields, print_result, print_table
from ops.errors import OpsError, UsageRefused

T = TypeVar("T")

_COLUMNS = ("name", "targets", "sticky", "revision", "changed_at", "changed_by")
_CHANGES = ("revision", "changed_at", "changed_by", "targets", "sticky", "why")
#: Every worker has sent a heartbeat and described its models by then.
_DISCOVERY_S = 2.5
_LOOK_S = 0.05
#: A worker is pinged by gateways: this process finds none dead.
_NEVER_S = 3600.0


def show_all(settings: BusSettings, *, as_json: bool) -> None:
    """Print every route in force."""
    result = {"routes": [_view(route) for route in _run(settings, lambda _, store: store.all())]}
    print_result(result, lambda: print_table(_COLUMNS, _rows(result["routes"]), "no routes"), as_json=as_json)


def show(settings: BusSettings, name: str, *, as_json: bool) -> None:
    """Print one route."""
    _print(_run(settings, lambda _, store: store.find(name)), as_json=as_json)


def show_history(settings: BusSettings, name: str, *, as_json: bool) -> None:
    """Print the changes of a route that are kept, oldest first."""
    result = {"changes": [_view(route) for route in _run(settings, lambda _, store: store.history(name))]}
    print_result(result, lambda: print_table(_CHANGES, _rows(result["changes"]), "no changes"), as_json=as_json)


def set_route(
    settings: BusSettings, name: str, targets: Sequence[str], sticky: str, why: str, *, force: bool, as_json: bool
) -> None:
    """Make or replace a route. Raises UsageRefused for a target, a weight or a name that cannot be one.

    Without `force` also OpsError for a target that no worker offers.
    """
    wanted = [_target(name, text) for text in targets]
    try:
        check_targets(wanted)
    except Invalid as error:
        raise UsageRefused(str(error)) from error

    async def change(bus: Bus, store: RouteStore) -> Route:
        if not force and (missing := await _missing(bus, wanted)):
            raise OpsError(f"{missing}; --force sets the route all the same")
        return await store.set(name, wanted, sticky, why)

    _print(_run(settings, change), as_json=as_json)


def remove(settings: BusSettings, name: str, why: str, *, as_json: bool) -> None:
    """End a route."""
    _print(_run(settings, lambda _, store: store.remove(name, why)), as_json=as_json)


def undo(settings: BusSettings, name: str, to: int | None, why: str, *, as_json: bool) -> None:
    """Restore an earlier revision. A target that no worker offers is reported, and restored all the same."""

    async def change(bus: Bus, store: RouteStore) -> Route:
        route = await store.undo(name, to, why)
        if missing := await _missing(bus, route.targets):
            print(f"antiphon: {missing}", file=sys.stderr)
        return route

    _print(_run(settings, change), as_json=as_json)


def _run(settings: BusSettings, act: Callable[[Bus, RouteStore], Awaitable[T]]) -> T:
    async def in_session() -> T:
        async with bus_session(settings) as bus:
            try:
                return await act(bus, RouteStore(bus, f"{getpass.getuser()}@{platform.node()}"))
            except Invalid as error:
                raise UsageRefused(str(error)) from error

    return run_async(in_session())


def _target(name: str, text: str) -> Target:
    """The target that `text` names for the route `name`. Raises UsageRefused."""
    what, separator, weight = text.rpartition("=")
    if not separator:
        raise UsageRefused(f"{short(text)!r}: is not TARGET=WEIGHT, such as v1=95 or piper@v1=5")
    model, at, version = what.partition("@")
    try:
        value = msgspec.convert(weight, float, strict=False)
    except msgspec.ValidationError as error:
        raise UsageRefused(f"{short(text)!r}: the weight {short(weight)!r} is no number") from error
    return Target(model=model if at else name, version=version if at else what, weight=value)


async def _missing(bus: Bus, targets: Collection[Target]) -> str:
    """A sentence about the first target that no worker offers; "" if workers offer all."""
    async with background_tasks() as tasks:
        fleet = Fleet(bus, _NEVER_S, tasks)
        tasks.create_task(fleet.run())
        for _ in range(round(_DISCOVERY_S / _LOOK_S)):
            if not any(_is_missing(fleet, target) for target in targets):
                return ""
            await asyncio.sleep(_LOOK_S)
        missing = next((target for target in targets if _is_missing(fleet, target)), None)
        if missing is None:
            return ""
        known = fleet.known_versions
        offered = sorted(f"{model}@{version}" for model, versions in known.items() for version in versions)
        named = f"version {missing.version} of {missing.model}" if missing.version else f"model {missing.model}"
        return f"no worker offers {named}{suggestion(missing.name, offered, limit=3)}"


def _is_missing(fleet: Fleet, target: Target) -> bool:
    versions = fleet.known_versions.get(target.model, {})
    return not versions or bool(target.version and target.version not in versions)


def _print(route: Route, *, as_json: bool) -> None:
    result = _view(route)
    print_result(result, lambda: print_fields(_row(result)), as_json=as_json)


def _view(route: Route) -> dict[str, Any]:
    total = sum(target.weight for target in route.targets)
    return {
        "name": route.name,
        "targets": [
            {
                "model": target.model,
                "version": target.version,
                "weight": target.weight,
                "share": round(target.weight / total, 6),
            }
            for target in route.targets
        ],
        "sticky": route.sticky,
        "revision": route.change.revision,
        "restores": route.change.restores,
        "changed_at": msgspec.to_builtins(route.change.at),
        "changed_by": route.change.by,
        "why": route.change.why,
    }


def _rows(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [_row(result) for result in results]


def _row(result: dict[str, Any]) -> dict[str, Any]:
    """One route for people: shares in per cent."""
    targets = [f"{each['model']}@{each['version']} {100 * each['share']:g} %" for each in result["targets"]]
    restored = result["restores"]
    return {
        "name": result["name"],
        "targets": ", ".join(targets) or "removed",
        "sticky": result["sticky"],
        "revision": result["revision"],
        "changed_at": f"{result['changed_at'][:19]}Z",
        "changed_by": result["changed_by"],
        "why": " ".join(filter(None, [result["why"], f"(restores {restored})" if restored is not None else ""]))
        or None,
    }
