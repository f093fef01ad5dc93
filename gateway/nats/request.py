"""A request at the NATS door: a `wire.Job` in JSON, options also as headers, to what is asked and how to say it."""

import uuid
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from bus import wire
from bus.errors import Invalid
from bus.params import short
from bus.text import suggestion
from bus.transport.parser import Message
from gateway.access.caller import Caller
from gateway.api.job_fields import JobRequest
from gateway.http.bodies import Body

API: Final = "nats"

Encoding = Literal["raw", "json"]


class NatsJobRequest(JobRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The native API's fields, and what a whole `wire.Job` may say besides."""

    tenant: str = ""
    client: wire.Client = wire.Client()


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What headers may say, `Antiphon-Linger-S` being `linger_s`."""

    id: str = ""
    model: str = ""
    version: str = ""
    voice: str = ""
    seed: int = 0
    lane: str = ""
    expires_at: datetime | None = None
    run_on: bool | None = None
    linger_s: float = 0.0
    encoding: Encoding = "raw"


class Request(msgspec.Struct, frozen=True):
    #: Complete but for admission's defaults.
    job: wire.Job
    #: `raw`: blocks as they are stored; `json`: each block as lines of JSON.
    encoding: Encoding


_PREFIX: Final = "antiphon-"
_SPELT: Final = {_PREFIX + name.replace("_", "-"): name for name in Options.__struct_fields__}
_UNSAID: Final = msgspec.structs.asdict(Options())
_body: Final = Body(NatsJobRequest)


def read(message: Message, headers: dict[str, str], asks: Caller) -> Request:
    """The request in `message`, whose `headers_of` are these, for whoever asks.

    Raises Malformed, or Invalid with the name of the field or header that is wrong.
    """
    given = _options(headers)
    asked = _body.read(message.data)
    if asked.tenant not in {"", asks.tenant}:
        raise Invalid(f"tenant: the body says {short(asked.tenant)!r}, but you speak for {asks.tenant!r}", "tenant")
    fields: dict[str, Any] = msgspec.structs.asdict(asked)
    for name, value in given.items():
        if name != "encoding":
            fields[name] = _agreed(name, fields[name], value)
    trace = headers.get("traceparent", "") or asked.client.traceparent
    fields |= {
        "id": fields["id"] or uuid.uuid4().hex,
        "tenant": asks.tenant,
        "client": wire.Client(api=API, traceparent=wire.traceparent_or_empty(trace), key=asks.key),
    }
    return Request(wire.Job(**fields), given.get("encoding", "raw"))


def headers_of(message: Message) -> dict[str, str]:
    """Names in small letters; of several with one name the last."""
    if message.head is None:
        return {}
    lines = message.head.decode(errors="backslashreplace").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _options(headers: dict[str, str]) -> dict[str, Any]:
    """What the headers that are ours say, by field. Raises Invalid."""
    told: dict[str, Any] = {}
    for header, value in headers.items():
        if not header.startswith(_PREFIX):
            continue
        name = _SPELT.get(header)
        if name is None:
            hint = suggestion(header, _SPELT, _titled)
            raise Invalid(f"{_titled(header)}: unknown header{hint}", _titled(header))
        try:
            told[name] = getattr(msgspec.convert({name: value}, Options, strict=False), name)
        except msgspec.ValidationError as error:
            reason = str(error).partition(" - at ")[0]
            raise Invalid(f"{_titled(header)}: {reason}; it is {short(value)!r}", _titled(header)) from error
    return told


def _agreed(name: str, of_body: Any, of_header: Any) -> Any:
    """The value of a field that a header gives; the body must leave it out or say the same."""
    if of_body not in {_UNSAID[name], of_header}:
        header = _titled(_PREFIX + name.replace("_", "-"))
        raise Invalid(f"{name}: the body says {short(str(of_body))}, {header} {short(str(of_header))}", name)
    return of_header


def _titled(header: str) -> str:
    return "-".join(part.capitalize() for part in short(header).split("-"))
