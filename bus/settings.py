"""Settings: a frozen struct per process, filled once in `main` from flags, variables and a file, in that order.

Nothing else reads os.environ, and nothing is read at import. A component takes the values it needs as arguments, with
the unit in the name. `bus` is flattened: `ANTIPHON_NATS`, `--nats` and `nats = "…"` all mean `settings.bus.nats`.
"""

import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec import Meta

from bus.text import did_you_mean

PREFIX = "ANTIPHON_"

S = TypeVar("S", bound=msgspec.Struct)


def doc(text: str) -> Meta:
    """Annotate a setting with its text in `--help`."""
    return Meta(description=text)


def repeatable(metavar: str, text: str) -> Meta:
    """Like `doc`, for a tuple whose flag is given once per value; a variable still separates values with commas."""
    return Meta(description=text, extra={"metavar": metavar})


def matching(pattern: str, description: str) -> Meta:
    """Require a string to match `pattern`; the error for any other one says `description`."""
    return Meta(pattern=pattern, examples=[description])


_URL = r"(nats|tls|ws|wss)://[^\s,]+"
Seconds = Annotated[float, Meta(gt=0, le=30 * 86_400)]
Bytes = Annotated[int, Meta(ge=1, le=1 << 50)]
Token = Annotated[str, matching(r"^[A-Za-z0-9_-]{1,64}\Z", "1 to 64 characters of A-Z a-z 0-9 _ -")]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], doc("Least severe log lines to write.")]
LogFormat = Annotated[
    Literal["auto", "json", "console"], doc("Form of log lines on stderr; auto: console on a terminal, else json.")
]


NatsUrl = Annotated[
    str,
    matching(rf"^{_URL}(,{_URL})*\Z", "a URL like nats://127.0.0.1:4222, or several, separated by commas"),
    doc("One URL, or several of a cluster, separated by commas."),
]
Root = Annotated[
    str,
    matching(r"^[a-z][a-z0-9-]{0,31}\Z", "1 to 32 characters of a-z 0-9 -, the first a letter"),
    doc("Name of the deployment: its subjects and streams begin with it."),
]


class SettingsError(ValueError):
    """A setting is unknown or invalid. The message names its source, its value and the limit."""


NatsCa = Annotated[str, doc("File of certificates to trust besides the system's, for a NATS server with TLS.")]


class BusSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that all processes of one deployment share."""

    #: May hold a password: print it through `redacted`.
    nats: NatsUrl = "nats://127.0.0.1:4222"
    nats_ca: NatsCa = ""
    root: Root = "antiphon"
    replicas: Annotated[
        int, Meta(ge=1, le=5), doc("Copies that JetStream keeps of each stream; more than one needs a cluster.")
    ] = 1
    ack_wait_s: Annotated[
        Seconds, doc("A job whose worker has been silent for this long is delivered to another worker.")
    ] = 5.0
    jobs_max_bytes: Annotated[Bytes, doc("Limit of the job queue; above 85 % new jobs are refused.")] = 1 << 30
    replies_max_bytes: Annotated[
        Bytes,
        doc("Limit of all logs, audio included; above 70 % old ones are purged, above 85 % new jobs are refused."),
    ] = 4 << 30
    replies_max_age_s: Annotated[Seconds, doc("Age of logs; at least twice the longest deadline.")] = 26 * 3600.0
    blobs_max_bytes: Annotated[
        Bytes, doc("Limit of all blobs together: what clients put, and the files of installed voices.")
    ] = 2 << 30
    max_job_bytes: Annotated[Bytes, doc("Limit of one job's JSON.")] = 256 << 10
    max_audio_s: Annotated[
        Seconds, doc("Longest audio of one job; never more than a quarter of `replies_max_bytes` is allowed either.")
    ] = 6 * 3600.0
    request_timeout_s: Annotated[Seconds, doc("How long one request to NATS may take.")] = 5.0
    election_patience_s: Annotated[Seconds, doc("How long to repeat requests while a cluster elects a leader.")] = 10.0
    own_parser: Annotated[
        bool,
        doc("Parse and write NATS with our own, faster code, for one version of nats-py; off: works with any version."),
    ] = True

    def __repr__(self) -> str:
        fields = (f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name != "nats")
        return f"BusSettings(nats={redacted(self.nats)!r}, {', '.join(fields)})"


def redacted(text: str) -> str:
    """Replace the secret of every URL in `text`: `nats://me:***@host`, and `***@host` for a bare token."""

    def hide(match: re.Match[str]) -> str:
        user, colon, _ = match["userinfo"].partition(":")
        return f"{match['scheme']}{user}:***@" if colon else f"{match['scheme']}***@"

    return re.sub(r"(?P<scheme>\w+://)(?P<userinfo>(?:(?!,\w+://)\S)+)@", hide, text)


def load(
    kind: type[S],
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    file: Path | None = None,
    *,
    also_known: Collection[str] = (),
) -> S:
    """Fill `kind`: a flag wins over a variable, a variable over a line of the TOML `file`.

    A flag that is None, or an empty list, was not given. `also_known` are names of settings of other processes, which
    share the environment and the file; they are ignored.

    Raises SettingsError on an invalid value and on an unknown name: a misspelt ANTIPHON_SLOST must not silently leave
    the default in force.
    """
    types = field_types(kind)
    known = types.keys() | set(also_known)
    given: dict[str, object] = {}
    for source in _sources(flags, environ, file):
        for name, value in source.values.items():
            if name not in known:
                raise SettingsError(f"unknown setting {source.spell(name)}{did_you_mean(name, known, source.spell)}")
            if name in types:
                given[name] = _value(source.spell(name), value, types[name])
    return _build(kind, given)


def field_types(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Name to type of every setting of `kind`, with those of a nested struct (`bus`) at the same level."""
    types: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        nested = isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
        types |= field_types(field.type) if nested else {field.name: field.type}
    return types


class _Source(msgspec.Struct, frozen=True):
    """One source of settings, and how it spells their names in messages."""

    spell: Callable[[str], str]
    values: Mapping[str, object]


def _sources(flags: Mapping[str, object], environ: Mapping[str, str], file: Path | None) -> list[_Source]:
    """Return the sources, the weakest first."""
    ours = {key.removeprefix(PREFIX).lower(): value for key, value in environ.items() if key.startswith(PREFIX)}
    set_flags = {name: value for name, value in flags.items() if value is not None and value != []}
    return [
        _Source(lambda name: f"{name} in {file}", _read(file) if file else {}),
        _Source(lambda name: f"{PREFIX}{name.upper()}", ours),
        _Source(lambda name: f"--{name.replace('_', '-')}", set_flags),
    ]


def _read(file: Path) -> dict[str, object]:
    try:
        return tomllib.loads(file.read_text())
    except OSError as error:
        raise SettingsError(f"cannot read the configuration {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is not TOML: {error}") from error


def _value(name: str, value: object, kind: Any) -> object:
    plain = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if get_origin(plain) is tuple and isinstance(value, str):
        value = tuple(part.strip() for part in value.split(",") if part.strip())
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        description = _description(kind) if "regex" in str(error) else None
        reason = f"must be {description}" if description else str(error)
        shown = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        raise SettingsError(f"{name}: {redacted(shown)!r}: {reason[0].lower()}{reason[1:]}") from error


def _description(kind: Any) -> str | None:
    for part in get_args(kind):
        found = part.examples[0] if isinstance(part, Meta) and part.examples else _description(part)
        if found is not None:
            return str(found)
    return None


def _build(kind: type[S], given: Mapping[str, object]) -> S:
    values: dict[str, object] = {}
    for field in msgspec.structs.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            values[field.name] = _build(field.type, given)
        elif field.name in given:
            values[field.name] = given[field.name]
    return kind(**values)
