"""Engines that can be served: the `antiphon.engines` entry points of every installed distribution."""

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, Final

import msgspec

from bus.fleet.messages import ModelCard
from bus.settings import SettingsError
from bus.text import suggestion
from gpuworker.engine import Capabilities, Engine, EngineOptions

GROUP: Final = "antiphon.engines"


class UnknownEngine(LookupError):
    """No installed distribution offers an engine of this name."""


def names() -> list[str]:
    """Names of all installed engines, sorted."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def find(name: str) -> EntryPoint:
    """The entry point of an engine. Raises UnknownEngine."""
    for point in entry_points(group=GROUP):
        if point.name == name:
            return point
    raise UnknownEngine(f"no engine is called {name!r}{suggestion(name, names())}")


def make(name: str, options: Mapping[str, object] = MappingProxyType({}), *, allow_faults: bool = False) -> Engine:
    """Make an engine, not loaded, with the `options` that an operator gave it, by name.

    Text is converted to the type of the option. `allow_faults` sets the option of that name where the engine has one.

    Raises:
        UnknownEngine: no such engine is installed.
        SettingsError: an option is unknown or has a wrong value.
        Exception: whatever the engine's module raises when it is imported.
    """
    kind: Any = find(name).load()
    options_type: type[EngineOptions] = getattr(kind, "Options", EngineOptions)
    if allow_faults and "allow_faults" in options_type.__struct_fields__:
        options = {"allow_faults": True, **options}
    filled = parse_options(name, options_type, options)
    engine: Engine = kind() if options_type is EngineOptions else kind(filled)
    return engine


def parse_options(name: str, kind: type[EngineOptions], given: Mapping[str, object]) -> EngineOptions:
    """The options of the engine `name` as its own struct. Raises SettingsError naming option, value and limit."""
    known = kind.__struct_fields__
    for key in given:
        if key not in known:
            raise SettingsError(f"unknown option engines.{name}.{key}{suggestion(key, known)}")
    try:
        return msgspec.convert(dict(given), kind, strict=False)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$.")
        key = path.rstrip("`")
        raise SettingsError(f"engines.{name}.{key}: {given.get(key)!r}: {reason[0].lower()}{reason[1:]}") from error


def card(capabilities: Capabilities) -> ModelCard:
    """The description of an engine that its worker publishes: the fields that both have, under the same names."""
    return msgspec.convert(capabilities, ModelCard, from_attributes=True)
