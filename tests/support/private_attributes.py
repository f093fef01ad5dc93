"""Private attributes of libraries that we use: a list, what a library really has, and what our sources really use."""

import ast
import inspect
from pathlib import Path
from typing import NamedTuple

#: Variables that hold an instance of a class of ours, by convention.
_OURS = {"self", "link"}


class Private(NamedTuple):
    """One private attribute of a library."""

    owner: type
    name: str
    #: The file of ours that uses it, and for what.
    used_in: str


def missing(library: str, version: str, expected: list[Private], instances: dict[type, object]) -> list[str]:
    """One line for every attribute that its class, or the instance given for that class, does not have."""
    return [
        f"{library} {version} changed: attribute {private.owner.__name__}.{private.name}, used in {private.used_in}"
        for private in expected
        if not hasattr(instances.get(private.owner, private.owner), private.name)
        and private.name not in attributes_set(private.owner)
    ]


def attributes_set(owner: type) -> set[str]:
    """Names that the methods of `owner` and of its bases assign on `self`, and their slots."""
    names: set[str] = set()
    for kind in owner.__mro__[:-1]:
        names |= set(getattr(kind, "__slots__", ()))
        try:
            tree = ast.parse(inspect.cleandoc(inspect.getsource(kind)))
        except (OSError, TypeError, SyntaxError):  # written in C
            continue
        names |= {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        }
    return names


def used(file: Path) -> set[str]:
    """Private names that a source reads, sets or overrides on anything, without those that it defines itself."""
    tree = ast.parse(file.read_text())
    seen, own = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            seen.add(node.attr)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"getattr", "hasattr"}:
            seen |= {arg.value for arg in node.args[1:2] if isinstance(arg, ast.Constant) and is_private(arg.value)}
        elif isinstance(node, ast.ClassDef):
            own |= defined(node)
    return seen - own


def defined(node: ast.ClassDef) -> set[str]:
    """Private names that a class of ours defines: its methods, and attributes that it assigns on an instance of itself."""
    names = set()
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) and is_private(part.name):
            names.add(part.name)
        elif isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store) and ast.unparse(part.value) in _OURS:
            names.add(part.attr)
    return {name for name in names if is_private(name)}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")
