"""Command-line flags made from a settings struct: each setting is a flag of the same name and description."""

import inspect
import types
from collections.abc import Callable
from typing import Annotated, Any, Union, cast, get_args, get_origin

import msgspec
import typer

from bus.settings import redacted

#: Second spellings that users know from other programs: nginx's flag has no unit.
_ALSO = {"fail_timeout_s": ("--fail-timeout",)}
_METAVARS = {int: "N", float: "N", str: "TEXT", tuple: "A,B"}


def with_flags(kind: type[msgspec.Struct]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option per setting of `kind`, as keyword arguments, None where not given.

    The values stay text: `bus.settings.load` checks them, so that a flag, a variable and a file have the same limits.

    typer takes options from the signature of a function, so this writes the options into the signature. Parameters
    written by hand, one per setting and command, would be a second list of settings that drifts from the structs.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        parameters = [*own, *_options(kind)]
        # typer reads the signature or the annotations, depending on its version.
        described = cast("Any", command)
        described.__signature__ = signature.replace(parameters=parameters)
        described.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
        return command

    return decorate


def _options(kind: type[msgspec.Struct]) -> list[inspect.Parameter]:
    options: list[inspect.Parameter] = []
    for field in msgspec.structs.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            options += _options(field.type)
        elif get_origin(_described(field.type)[0]) is not dict:  # a table of the file has no flag
            options.append(_option(field))
    return options


def _option(field: msgspec.structs.FieldInfo) -> inspect.Parameter:
    plain, help_text = _described(field.type)
    flag = f"--{field.name.replace('_', '-')}"
    default = _default(field)
    text = f"{help_text} [{default}]" if default else help_text
    if plain in {bool, bool | None}:
        annotation: Any = Annotated[bool | None, typer.Option(f"{flag}/--no-{flag[2:]}", help=text)]
    elif metavar := _repeated(field.type):
        annotation = Annotated[list[str] | None, typer.Option(flag, help=text, metavar=metavar)]
    else:
        also = _ALSO.get(field.name, ())
        annotation = Annotated[str | None, typer.Option(flag, *also, help=text, metavar=_metavar(field.name, plain))]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _metavar(name: str, plain: Any) -> str:
    """The placeholder of the value in the help: S for seconds, the choices themselves for a Literal."""
    if get_origin(plain) in {Union, types.UnionType}:  # a value or None, which means not set
        plain, _ = _described(next(kind for kind in get_args(plain) if kind is not types.NoneType))
    if plain is float and name.endswith("_s") and not name.endswith("_per_s"):
        return "S"
    return _METAVARS.get(get_origin(plain) or plain) or "|".join(map(str, get_args(plain)))


def _described(kind: Any) -> tuple[Any, str]:
    """The bare type inside Annotated, and the description from its metadata."""
    if get_origin(kind) is not Annotated:
        return kind, ""
    plain, *notes = get_args(kind)
    return plain, next((n.description for n in notes if isinstance(n, msgspec.Meta) and n.description), "")


def _repeated(kind: Any) -> str:
    """The metavar of a setting whose flag may be given several times; empty for any other."""
    notes = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    return next((str(n.extra["metavar"]) for n in notes if isinstance(n, msgspec.Meta) and n.extra), "")


def _default(field: msgspec.structs.FieldInfo) -> str:
    value = field.default
    if value is msgspec.NODEFAULT or value is None or isinstance(value, bool):
        return ""
    return ",".join(value) if isinstance(value, tuple) else redacted(str(value))
