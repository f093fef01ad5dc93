"""Checks of the description that an engine gives of itself, its requirements and its parameter schema."""

import json
import re
from dataclasses import replace

import msgspec

from bus.errors import Invalid
from bus.params import check, check_schema
from gpuworker.conformance.driving import schema_errors
from gpuworker.conformance.rules import Broken, require
from gpuworker.conformance.subject import Subject
from gpuworker.engine import Engine


def is_an_engine_under_its_own_name(subject: Subject) -> None:
    """Before it is loaded, it has the methods of an engine, and capabilities under the name of its entry point."""
    engine = subject.make()
    require(isinstance(engine, Engine), f"{type(engine).__name__} lacks a method of gpuworker.engine.Engine")
    capabilities = engine.capabilities()
    require(capabilities.name == subject.name, f"name is {capabilities.name!r}, its entry point {subject.name!r}")
    version = capabilities.version
    require(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", version), f"version is {version!r}, not one token of a subject")
    require(capabilities.licence, "licence is empty")


def has_figures_within_their_limits(subject: Subject) -> None:
    """Rate, channels, length of the input and size of a batch are within their limits."""
    capabilities = subject.engine.capabilities()
    rate_hz, channels = capabilities.rate_hz, capabilities.channels
    require(8_000 <= rate_hz <= 192_000, f"rate_hz is {rate_hz}, not from 8000 to 192000")
    require(channels in {1, 2}, f"channels is {channels}, not 1 or 2")
    for name in ("max_input_chars", "max_batch"):
        value = getattr(capabilities, name)
        require(value >= 1, f"{name} is {value}, the least is 1")


def has_a_default_among_its_voices(subject: Subject) -> None:
    """Ids of voices are unique, and the default voice is one of them; without voices it is empty."""
    capabilities = subject.engine.capabilities()
    voices = [voice.id for voice in capabilities.voices]
    require(len(set(voices)) == len(voices), "two voices have the same id")
    default = capabilities.default_voice
    require((default in voices) == bool(voices), f"default_voice is {default!r}, none of its {len(voices)} voices")


def can_name_its_requirements(subject: Subject) -> None:
    """Each requirement is a module or a library, and has a command that installs it."""
    for required in subject.make().capabilities().requires:
        for each in (required, *required.otherwise):
            require(bool(each.module) != bool(each.library), f"{each} is neither one module nor one library")
            require(each.install, f"{each} has no command that installs it")


def has_constant_capabilities(subject: Subject) -> None:
    """Capabilities can be written as JSON, and are equal before and after `load` and in another instance."""
    encoded = msgspec.json.encode(subject.engine.capabilities())
    require(json.loads(encoded)["name"] == subject.name, "capabilities as JSON have another name")
    require(encoded == msgspec.json.encode(subject.make().capabilities()), "another instance has other capabilities")


def has_a_closed_parameter_schema(subject: Subject) -> None:
    """The schema is a valid one, of an object, and refuses parameters that it does not list."""
    schema = subject.engine.capabilities().param_schema
    try:
        check_schema(schema)
    except Invalid as error:
        raise Broken(f"param_schema is no JSON Schema of draft 2020-12: {error}") from error
    require(schema.get("type") == "object", 'param_schema lacks "type": "object"')
    require(schema.get("additionalProperties") is False, 'param_schema lacks "additionalProperties": false')
    unknown = replace(subject.jobs.first, params={"no_such_thing": 1})
    require(schema_errors(subject.engine, unknown), "param_schema allows params.no_such_thing")


def has_defaults_that_its_schema_allows(subject: Subject) -> None:
    """Each default in the schema is valid by the rule that it stands in."""
    for name, rule in subject.engine.capabilities().param_schema.get("properties", {}).items():
        if "default" in rule:
            try:
                check({"type": "object", "properties": {name: rule}}, {name: rule["default"]})
            except Invalid as error:
                raise Broken(f"a default is refused by its own rule: {error}") from error
