"""A job's `params` against its model's schema. The only module that knows jsonschema."""

import functools
from collections.abc import Mapping
from typing import Any

import msgspec
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from bus.errors import Invalid
from bus.text import suggestion

_MAX_VALUE_CHARS = 80
#: Clients repeat themselves: the check of equal params is most of an idle request's arithmetic.
_MAX_REMEMBERED_BYTES = 1024


@functools.lru_cache(maxsize=256)
def _validator(schema: bytes) -> Draft202012Validator:
    return Draft202012Validator(msgspec.json.decode(schema))


def check(schema: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Raises Invalid, its path `params.…`, with the limit and the value, for the first thing that is wrong."""
    if not params and not schema.get("required"):
        return
    rules, given = msgspec.json.encode(schema), msgspec.json.encode(params)
    if len(given) <= _MAX_REMEMBERED_BYTES:
        _remembered(rules, given)
    else:
        _check(rules, params)


@functools.lru_cache(maxsize=1024)
def _remembered(rules: bytes, given: bytes) -> None:
    """What was right once is right again; what is wrong raises, and is not remembered."""
    _check(rules, msgspec.json.decode(given))


def _check(rules: bytes, params: Mapping[str, Any]) -> None:
    for error in _validator(rules).iter_errors(params):
        path = ".".join(["params", *(str(part) for part in error.absolute_path)])
        if error.validator == "additionalProperties" and isinstance(error.instance, dict):
            raise _unknown(path, error.instance, error.schema)
        raise Invalid(f"{path}: {_message(error)}", path)


def _unknown(path: str, given: Mapping[str, Any], schema: Any) -> Invalid:
    """What nobody knows, by name, with the nearest that somebody does."""
    known = schema.get("properties", {})
    unknown = min(given.keys() - known.keys())
    path = f"{path}.{short(unknown)}"
    return Invalid(f"{path}: unknown{suggestion(unknown, known)}", path)


def _message(error: ValidationError) -> str:
    """jsonschema's words, in which a long value does not hide the limit."""
    value = repr(error.instance)
    message: str = error.message
    return message.replace(value, short(value)) if len(value) > _MAX_VALUE_CHARS else message


def short(text: str) -> str:
    """`text` as an error may quote it."""
    return text if len(text) <= _MAX_VALUE_CHARS else f"{text[: _MAX_VALUE_CHARS - 1]}…"
