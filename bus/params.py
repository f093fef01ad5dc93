"""A job's `params` against its model's schema. The only module that knows jsonschema."""

import functools
from collections.abc import Mapping
from typing import Any

import msgspec
from jsonschema import Draft202012Validator

from bus.errors import Invalid


@functools.lru_cache(maxsize=256)
def _validator(schema: bytes) -> Draft202012Validator:
    return Draft202012Validator(msgspec.json.decode(schema))


def check(schema: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Raises Invalid, its path `params.…`, with the limit and the value, for the first thing that is wrong."""
    for error in _validator(msgspec.json.encode(schema)).iter_errors(params):
        path = ".".join(["params", *(str(part) for part in error.absolute_path)])
        raise Invalid(f"{path}: {error.message:.300}", path)
