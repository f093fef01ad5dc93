"""Bodies of requests: JSON to a struct, or an error that names field, limit and value."""

import re
from typing import Any, Generic, TypeVar

import msgspec

from bus.errors import Invalid, Malformed
from bus.params import short, without_nulls
from bus.text import suggestion

S = TypeVar("S", bound=msgspec.Struct)

_AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_BYTE = re.compile(r"\(byte (\d+)\)$")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*?)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*?)`")
_NOT_A_NUMBER = re.compile(rb"-?(nan|inf(inity)?)\b", re.IGNORECASE)
_EXCERPT_BYTES = 20
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Body(Generic[S]):
    """Decodes one kind of body. Make it once: its decoder is compiled then."""

    def __init__(self, kind: type[S]) -> None:
        self._fields = kind.__struct_encode_fields__
        self._decoder = msgspec.json.Decoder(kind)

    def read(self, data: bytes) -> S:
        """A null is an absent field. Raises Malformed if `data` is no JSON, Invalid if it is JSON of another shape."""
        try:
            return self._decoder.decode(data)
        except msgspec.ValidationError as error:
            if b"null" not in data:
                raise self._invalid(str(error), data) from None
        except _NOT_JSON as error:
            raise _malformed(error, data) from None
        return self._read_without_nulls(data)

    def _read_without_nulls(self, data: bytes) -> S:
        try:
            rest = msgspec.json.encode(without_nulls(msgspec.json.decode(data)))
        except _NOT_JSON as error:
            raise _malformed(error, data) from None
        try:
            return self._decoder.decode(rest)
        except msgspec.ValidationError as error:
            raise self._invalid(str(error), rest) from None

    def _invalid(self, message: str, data: bytes) -> Invalid | Malformed:
        at = _AT.search(message)
        path = at["path"] if at else ""
        message = message[: at.start()] if at else message
        if message.startswith("Number out of range"):
            return Malformed(f"{path or 'body'}: a number is too large to be one (its exponent, or its digits)")
        if unknown := _UNKNOWN.match(message):
            return self._unknown(unknown["name"], path)
        if missing := _MISSING.match(message):
            path = f"{path}.{missing['name']}" if path else missing["name"]
            return Invalid(f"{path}: is required", path)
        value = _value_at(data, path)
        path = re.sub(r"\[\.\.\.\]", "", path).strip(".")
        return Invalid(f"{path or 'body'}: {message}; it is {value}", path)

    def _unknown(self, name: str, path: str) -> Invalid:
        path = f"{path}.{short(name)}" if path else short(name)
        return Invalid(f"{path}: unknown field{suggestion(name, self._fields)}", path)


def _malformed(error: Exception, data: bytes) -> Malformed:
    if isinstance(error, UnicodeDecodeError):
        # Its position counts from the start of a string, not of the body.
        return Malformed(f"the body is not UTF-8: {error.reason} 0x{error.object[error.start]:02x}")
    if isinstance(error, RecursionError):
        return Malformed("the body is nested too deeply")
    return Malformed(_not_json(str(error), data))


def _not_json(message: str, data: bytes) -> str:
    message = message.removeprefix("JSON is malformed: ")
    at = _BYTE.search(message)
    if not data.strip():
        return "the body is empty, and JSON was expected"
    if at is None:
        return f"the body is not JSON: {message} (it has {len(data)} bytes)"
    place = int(at[1])
    start = max(0, place - 1) if data[max(0, place - 1) : place] == b"-" else place
    number = _NOT_A_NUMBER.match(data, start)
    if number is not None:
        return f"{number[0].decode()} at byte {start}: JSON has no such number"
    excerpt = data[place : place + _EXCERPT_BYTES].decode(errors="backslashreplace")
    return f"the body is not JSON: {message}, at {excerpt!r}"


def _value_at(data: bytes, path: str) -> str:
    """The refused value as short JSON. Raises Malformed if the rest of the body is no JSON."""
    try:
        value: Any = msgspec.json.decode(data)
    except _NOT_JSON as error:
        raise _malformed(error, data) from None
    for part in path.split(".") if path else ():
        if not isinstance(value, dict) or part not in value:
            break
        value = value[part]
    return short(msgspec.json.encode(value).decode())
