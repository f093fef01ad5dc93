"""Which engines there are: the `antiphon.engines` entry points of every installed distribution."""

import inspect
from importlib.metadata import entry_points
from typing import Any, Final

import msgspec

from bus.fleet.messages import ModelCard, Voice
from gpuworker.engine import Capabilities, Engine

GROUP: Final = "antiphon.engines"


class UnknownEngine(LookupError):
    """No installed distribution offers it."""


def names() -> list[str]:
    return sorted({point.name for point in entry_points(group=GROUP)})


def make(name: str, *, allow_faults: bool) -> Engine:
    """An engine, not loaded. Raises UnknownEngine, or whatever its module raises when imported."""
    for point in entry_points(group=GROUP):
        if point.name == name:
            kind: Any = point.load()
            takes_faults = "allow_faults" in inspect.signature(kind).parameters
            engine: Engine = kind(allow_faults=allow_faults) if takes_faults else kind()
            return engine
    raise UnknownEngine(f"no engine {name!r}; installed are {', '.join(names()) or 'none'}")


def card(capabilities: Capabilities) -> ModelCard:
    """What the fleet is told of an engine."""
    return ModelCard(
        name=capabilities.name,
        version=capabilities.version,
        kind=capabilities.kind,
        rate_hz=capabilities.rate_hz,
        channels=capabilities.channels,
        resume=capabilities.resume,
        determinism=capabilities.determinism,
        param_schema=msgspec.to_builtins(capabilities.param_schema),
        max_input_chars=capabilities.max_input_chars,
        voices=[
            Voice(id=voice.id, name=voice.name, language=voice.language, gender=voice.gender)
            for voice in capabilities.voices
        ],
        languages=list(capabilities.languages),
        default_voice=capabilities.default_voice,
        max_batch=capabilities.max_batch,
        licence=capabilities.licence,
    )
