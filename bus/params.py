"""Validates a job's `params` against its model's JSON Schema. The only module that imports jsonschema."""

import functools
from collections.abc import Mapping
from typing import Any

import msgspec
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError

from bus.errors import Invalid
from bus.text import suggestion

_MAX_VALUE_CHARS = 80
#: Larger params are validated each time. Clients repeat themselves, and validation is most of an idle request's CPU.
_MAX_CACHED_BYTES = 1024


@functools.lru_cache(maxsize=256)
def _validator(schema: bytes) -> Draft202012Validator:
    return Draft202012Validator(msgspec.json.decode(schema))


def check(schema: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Raise Invalid for the first error, with its path (`params.…`), the limit and the value."""
    if not params and not schema.get("required"):
        return
    rules, given = msgspec.json.encode(schema), msgspec.json.encode(params)
    if len(given) <= _MAX_CACHED_BYTES:
        _check_cached(rules, given)
    else:
        _check(rules, params)


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raise Invalid unless `schema` is itself valid, by the rules of draft 2020-12."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise Invalid(error.message, ".".join(map(str, error.absolute_path))) from error


@functools.lru_cache(maxsize=1024)
def _check_cached(rules: bytes, given: bytes) -> None:
    """Only valid params are cached: an exception leaves nothing in the cache."""
    _check(rules, msgspec.json.decode(given))


def _check(rules: bytes, params: Mapping[str, Any]) -> None:
    for error in _validator(rules).iter_errors(params):
        path = ".".join(["params", *(str(part) for part in error.absolute_path)])
        if error.validator == "additionalProperties" and isinstance(error.instance, dict):
            raise _unknown(path, error.instance, error.schema)
        raise Invalid(f"{path}: {_message(error)}", path)


def _unknown(path: str, given: Mapping[str, Any], schema: Any) -> Invalid:
    """Name the first unknown parameter, and a known one that resembles it."""
    known = schema.get("properties", {})
    unknown = min(given.keys() - known.keys())
    path = f"{path}.{short(unknown)}"
    return Invalid(f"{path}: unknown{suggestion(unknown, known)}", path)


def _message(error: ValidationError) -> str:
    """jsonschema's message, with a long value shortened so that it does not hide the limit."""
    value = repr(error.instance)
    message: str = error.message
    return message.replace(value, short(value)) if len(value) > _MAX_VALUE_CHARS else message


def short(text: str) -> str:
    """Shorten `text` to 80 characters, for an error that quotes it."""
    return text if len(text) <= _MAX_VALUE_CHARS else f"{text[: _MAX_VALUE_CHARS - 1]}…"


def without_nulls(value: Any) -> Any:
    """JSON without the fields of objects that are null: to clients, a null is an absent field. Lists keep theirs."""
    if isinstance(value, dict):
        return {name: without_nulls(each) for name, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value
