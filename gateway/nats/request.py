"""A request to the NATS API: a `wire.Job` in JSON. Fields may also be headers: `Antiphon-Linger-S` is `linger_s`."""

import uuid
from typing import Any, Final, Literal

import msgspec
from msgspec import NODEFAULT

from bus import wire
from bus.errors import Invalid
from bus.params import short
from bus.text import suggestion
from bus.transport.parser import Message
from gateway.access.caller import Caller
from gateway.api.job_fields import JobRequest, job_from
from gateway.http.bodies import Body
from gateway.http.headers import traceparent

API: Final = "nats"

Encoding = Literal["raw", "json"]


class NatsJobRequest(JobRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body: the native API's request, and the fields of a whole `wire.Job` that the gateway itself writes."""

    tenant: str = ""
    client: wire.Client = wire.Client()


class Request(msgspec.Struct, frozen=True):
    """A request that has been read."""

    #: Not validated yet.
    job: wire.Job
    #: `raw`: blocks as they are stored; `json`: each block as lines of JSON.
    encoding: Encoding


_PREFIX: Final = "antiphon-"
#: Fields that fit no header.
_IN_BODY_ONLY: Final = {"input", "script", "params", "inputs"}
_OPTIONS: Final = [field for field in msgspec.structs.fields(JobRequest) if field.name not in _IN_BODY_ONLY]
#: The fields that headers may set: those of a request, and the encoding of blocks.
_Headers = msgspec.defstruct(
    "_Headers",
    [*((field.name, field.type, field.default) for field in _OPTIONS), ("encoding", Encoding, "raw")],
)
_FIELDS: Final = {_PREFIX + name.replace("_", "-"): name for name in _Headers.__struct_fields__}
#: Values of fields that the body leaves out.
_DEFAULTS: Final = {field.name: field.default for field in _OPTIONS}
assert NODEFAULT not in _DEFAULTS.values(), "a header must not be required"
_body: Final = Body(NatsJobRequest)


def read(message: Message, headers: dict[str, str], owner: Caller) -> Request:
    """The request in `message`, sent by `owner`. `headers`: those of `headers_of(message)`.

    Raises Malformed, or Invalid with the name of the field or header at fault.
    """
    options = _options(headers)
    encoding = options.pop("encoding", "raw")
    body = _body.read(message.data)
    if body.tenant not in {"", owner.tenant}:
        raise Invalid(f"tenant: the body says {short(body.tenant)!r}, the caller is of {owner.tenant!r}", "tenant")
    fields = {name: _agreed(name, getattr(body, name), value) for name, value in options.items()}
    trace = traceparent(headers.get("traceparent") or body.client.traceparent)
    job = job_from(
        body,
        **{
            **fields,
            "id": fields.get("id") or body.id or uuid.uuid4().hex,
            "tenant": owner.tenant,
            "client": wire.Client(api=API, traceparent=trace, key=owner.key),
        },
    )
    return Request(job, encoding)


def headers_of(message: Message) -> dict[str, str]:
    """The headers by name in lower case; of several with one name the last."""
    if message.head is None:
        return {}
    lines = message.head.decode(errors="backslashreplace").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _options(headers: dict[str, str]) -> dict[str, Any]:
    """The values of our headers by field. Raises Invalid for an unknown header or a value of another type."""
    options: dict[str, Any] = {}
    for header, value in headers.items():
        if not header.startswith(_PREFIX):
            continue
        name = _FIELDS.get(header)
        if name is None:
            hint = suggestion(header, _FIELDS, _titled)
            raise Invalid(f"{_titled(header)}: unknown header{hint}", _titled(header))
        try:
            options[name] = getattr(msgspec.convert({name: value}, _Headers, strict=False), name)
        except msgspec.ValidationError as error:
            reason = str(error).partition(" - at ")[0]
            raise Invalid(f"{_titled(header)}: {reason}; it is {short(value)!r}", _titled(header)) from error
    return options


def _agreed(name: str, of_body: Any, of_header: Any) -> Any:
    """The value of a field that a header sets. Raises Invalid if the body has another one."""
    if of_body not in {_DEFAULTS[name], of_header}:
        header = _titled(_PREFIX + name.replace("_", "-"))
        raise Invalid(f"{name}: the body says {short(str(of_body))}, {header} {short(str(of_header))}", name)
    return of_header


def _titled(header: str) -> str:
    return "-".join(part.capitalize() for part in short(header).split("-"))
