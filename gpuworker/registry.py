"""Engines that can be served: the `antiphon.engines` entry points of every installed distribution."""

import re
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from bus.fleet.messages import ModelCard
from bus.quality import Limits
from bus.settings import SettingsError
from bus.text import suggestion
from gpuworker.engine import Capabilities, Engine, EngineOptions

GROUP: Final = "antiphon.engines"
S = TypeVar("S", bound=msgspec.Struct)
_MODEL: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


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


class ServedModel(NamedTuple):
    """A model to serve: its name on the bus, its engine, and the options that an operator gave it, by name."""

    model: str
    engine: str
    options: Mapping[str, object]


def served(engine: str, options: Mapping[str, object]) -> list[ServedModel]:
    """The models that an engine serves: one of its own name, or one for each table `[engines.<engine>.<model>]`.

    Raises UnknownEngine; SettingsError for an option beside such tables, and if there is none; whatever the engine's
    module raises when it is imported.
    """
    if not getattr(find(engine).load(), "has_a_table_for_each_model", False):
        return [ServedModel(engine, engine, options)]
    for name, table in options.items():
        if not isinstance(table, Mapping):
            raise SettingsError(f"engines.{engine}.{name}: is no table; options belong to [engines.{engine}.MODEL]")
        if not _MODEL.fullmatch(name):
            raise SettingsError(
                f"engines.{engine}: {name!r} is no name of a model: 1 to 64 characters of A-Z a-z 0-9 _ -"
            )
    if not options:
        raise SettingsError(f"engines.{engine}: names no model; write a table [engines.{engine}.MODEL] for each")
    return [ServedModel(name, engine, table) for name, table in options.items() if isinstance(table, Mapping)]


def make(name: str, options: Mapping[str, object] = MappingProxyType({}), *, allow_faults: bool = False) -> Engine:
    """`make_model` of the model that has its engine's name."""
    return make_model(ServedModel(name, name, options), allow_faults=allow_faults)


def make_model(served: ServedModel, *, allow_faults: bool = False) -> Engine:
    """Make an engine, not loaded, with the options that an operator gave it.

    Text is converted to the type of the option. `allow_faults` sets the option of that name where the engine has one.

    Raises:
        UnknownEngine: no such engine is installed.
        SettingsError: an option is unknown or has a wrong value.
        Exception: whatever the engine's module raises when it is imported.
    """
    model, name, options = served
    kind: Any = find(name).load()
    options_type: type[EngineOptions] = getattr(kind, "Options", EngineOptions)
    if allow_faults and "allow_faults" in options_type.__struct_fields__:
        options = {"allow_faults": True, **options}
    filled = parse_options(f"engines.{name}" if model == name else f"engines.{name}.{model}", options_type, options)
    if getattr(kind, "has_a_table_for_each_model", False):
        try:
            engine: Engine = kind(model, filled)
        except ValueError as error:
            raise SettingsError(f"engines.{name}.{model}: {error}") from error
    else:
        engine = kind() if options_type is EngineOptions else kind(filled)
    return engine


def parse_options(path: str, kind: type[S], given: Mapping[str, object]) -> S:
    """A table of the settings, `path`, as the struct of its options. Raises SettingsError: option, value and limit."""
    known = kind.__struct_fields__
    for key in given:
        if key not in known:
            raise SettingsError(f"unknown option {path}.{key}{suggestion(key, known)}")
    try:
        return msgspec.convert(dict(given), kind, strict=False)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `$.")
        key = place.rstrip("`")
        if not key:  # a rule about several options
            raise SettingsError(f"{path}.{reason}") from error
        raise SettingsError(f"{path}.{key}: {given.get(key)!r}: {reason[0].lower()}{reason[1:]}") from error


def card(capabilities: Capabilities) -> ModelCard:
    """The description of an engine that its worker publishes: the fields that both have, under the same names."""
    return msgspec.convert(capabilities, ModelCard, from_attributes=True)


def limited(card: ModelCard, given: Mapping[str, object]) -> ModelCard:
    """`card` with the limits of `given`, an operator's table `[quality.MODEL]`, in place of its engine's.

    Raises SettingsError naming the limit, its value and its range.
    """
    if not given:
        return card
    own = msgspec.to_builtins(card.quality or Limits())
    limits = parse_options(f"quality.{card.name}", Limits, {**own, **given})
    return msgspec.structs.replace(card, quality=limits if limits.measured else None)
