"""A quick look at an ONNX file: whether it is whole, its inputs and operators. Nothing is loaded for it.

An ONNX file is one protobuf message. Its fields carry their lengths, so a file that was cut short, or that is something
else, is found out by a walk over the fields, which skips the weights.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

#: protobuf's own limit of a message. The largest published models have some 330 MB.
MAX_BYTES: Final = 2**31 - 1
_MESSAGE_CHARS: Final = 500
_GRAPH, _NODE, _INPUT, _OP_TYPE, _NAME = 7, 1, 11, 4, 1
_INITIALIZER, _EXTERNAL_DATA = 5, 13
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10


class Unusable(Exception):
    """A voice or a model cannot be served; the text says why, and names the file. One line of limited length."""

    def __init__(self, message: str) -> None:
        line = "".join(char if char.isprintable() else " " for char in message[: _MESSAGE_CHARS + 1])
        super().__init__(line if len(message) <= _MESSAGE_CHARS else f"{line[:_MESSAGE_CHARS]}…")


class Outline(NamedTuple):
    """The names of a graph's inputs, and its kinds of operators."""

    inputs: set[str]
    operators: set[str]


def outline(path: Path) -> Outline:
    """Check that a file is a whole ONNX file, and return the outline of its graph.

    Reads some hundred kilobytes, whatever the size. Raises Unusable.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise Unusable(f"{path.name} has {size} bytes; an ONNX file has at most {MAX_BYTES}")
        if size == 0:
            raise Unusable(f"{path.name} is empty")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _outline(data, path.name)
    except OSError as error:
        raise Unusable(f"{path.name} cannot be read: {error.strerror or error}") from error


def _outline(data: mmap.mmap, name: str) -> Outline:
    inputs: set[str] = set()
    operators: set[str] = set()
    try:
        for start, end in _fields(data, 0, len(data), _GRAPH):
            inputs |= {_text(data, *span, _NAME) for span in _fields(data, start, end, _INPUT)}
            operators |= {_text(data, *span, _OP_TYPE) for span in _fields(data, start, end, _NODE)}
            for span in _fields(data, start, end, _INITIALIZER):
                if any(True for _ in _fields(data, *span, _EXTERNAL_DATA)):
                    raise Unusable(f"{name} has weights in another file, which are not read")
    except ValueError as error:
        raise Unusable(f"{name} is not a whole ONNX file: {error}") from error
    return Outline(inputs, operators)


def _text(data: mmap.mmap, start: int, end: int, field: int) -> str:
    return "".join(data[at:stop].decode(errors="replace") for at, stop in _fields(data, start, end, field))


def _fields(data: mmap.mmap, start: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """(start, end) of each length-delimited field `wanted` of the message between `start` and `end`.

    Raises ValueError where the bytes are no protobuf message.
    """
    at = start
    while at < end:
        tag, at = _varint(data, at, end)
        field, kind = tag >> 3, tag & 7
        if kind == _LENGTH:
            length, at = _varint(data, at, end)
        elif kind == _VARINT:
            _, at = _varint(data, at, end)
            length = 0
        else:
            length = {_FIXED64: 8, _FIXED32: 4}.get(kind, -1)
        if field == 0 or length < 0:
            raise ValueError(f"byte {at} is no field of it")
        if at + length > end:
            raise ValueError(f"{at + length - end} bytes are missing")
        if field == wanted and kind == _LENGTH:
            yield at, at + length
        at += length


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """A number of seven bits a byte, and the position behind it."""
    value = 0
    for shift in range(_MAX_VARINT_BYTES):
        if at >= end:
            raise ValueError("it ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, at
    raise ValueError(f"byte {at} is no field of it")
