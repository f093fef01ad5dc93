"""The schemas of `/openapi.json`: a component for each struct, in a form from which generators make usable clients.

Generators name classes by the component, or by its title: both are the name of the struct, with its dialect before it,
and unique. They read an object without properties as one that is always empty, and cannot read a type that is only
null.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import inspect

_ROOT: Final = "#/components/schemas/"
_DIALECT: Final = re.compile(r"gateway\.dialects\.(?P<folder>\w+)")
#: Attributes of a node of `msgspec.inspect` that hold the types of its parts.
_PARTS: Final = ("type", "types", "item_type", "item_types", "key_type", "value_type")


class SameName(Exception):
    """Two structs of one dialect have the same name."""


def schemas_of(kinds: Iterable[Any], titles: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of each of `kinds` by its `str`, and the components that they refer to.

    `titles`: the prefix of the names of a dialect's structs, by the dialect's folder. Raises SameName.
    """
    listed = list(kinds)
    found, components = msgspec.json.schema_components(listed, ref_template=f"{_ROOT}{{name}}")
    names = _names(components, listed, titles)
    schemas = {str(kind): _usable(schema, names) for kind, schema in zip(listed, found, strict=True)}
    return schemas, {names[key]: _usable(schema, names) | {"title": names[key]} for key, schema in components.items()}


def _names(components: Iterable[str], kinds: Iterable[Any], titles: Mapping[str, str]) -> dict[str, str]:
    """The name of each component by msgspec's."""
    modules: dict[str, str] = {}
    for each in inspect.multi_type_info(list(kinds)):
        for cls in _classes(each, set()):
            modules |= {cls.__name__: cls.__module__, f"{cls.__module__}.{cls.__qualname__}": cls.__module__}
    names: dict[str, str] = {}
    for key in components:
        # A generic struct is `Name_Argument_`, and a part of it that has a namesake `module.Name`.
        module = modules.get(key) or modules[key.partition("_")[0]]
        match = _DIALECT.match(module)
        folder = match["folder"] if match else ""
        words = [word.rpartition(".")[2] for word in key.split("_") if word]
        name = titles.get(folder, folder.capitalize()) + "".join(word[0].upper() + word[1:] for word in words)
        if name in names.values():
            raise SameName(f"{module}: two structs would be the schema {name!r}; rename one")
        names[key] = name
    return names


def _classes(node: Any, seen: set[Any]) -> Iterator[Any]:
    """The structs and enums of a type and of everything in it; of a generic one the class without its arguments."""
    if isinstance(node, tuple | list):
        for each in node:
            yield from _classes(each, seen)
    elif isinstance(node, inspect.StructType | inspect.EnumType):
        if node.cls not in seen:
            seen.add(node.cls)
            yield getattr(node.cls, "__origin__", node.cls)
            fields = node.fields if isinstance(node, inspect.StructType) else ()
            yield from _classes([field.type for field in fields], seen)
    elif isinstance(node, inspect.Type):
        for part in _PARTS:
            yield from _classes(getattr(node, part, ()), seen)


def _usable(node: Any, names: Mapping[str, str], *, is_choice: bool = False) -> Any:
    """A schema with the names of the components, and without what generators cannot read. `is_choice`: in `anyOf`."""
    if isinstance(node, str) and node.startswith(_ROOT):
        return _ROOT + names[node.removeprefix(_ROOT)]
    if isinstance(node, list):
        return [_usable(each, names, is_choice=is_choice) for each in node]
    if not isinstance(node, dict):
        return node
    if node.get("type") == "null" and not is_choice:
        return {**node, "type": ["string", "null"]}
    shown = {key: _usable(value, names, is_choice=key in {"anyOf", "oneOf"}) for key, value in node.items()}
    if node.get("type") == "object" and "properties" not in node:
        shown.setdefault("additionalProperties", True)
    return shown
