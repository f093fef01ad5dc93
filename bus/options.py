"""Options of a job, as a request to any API may have them: no I/O, no clock, no settings.

Their checks are in `bus/jobs/validate.py`; a worker also reads jobs that no gateway has validated.
"""

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from bus.subjects import LANES

MAX_SEED: Final = 2**63 - 1
MAX_LINGER_S: Final = 3600.0
#: The longest deadline: REPLIES keeps a log for at least twice as long.
MAX_DEADLINE_S: Final = 12 * 3600.0
#: Header of a request that another stack passed on: how many did so.
HOPS_HEADER: Final = "Antiphon-Hops"
MAX_HOPS: Final = 3


def schema(text: str, **limits: Any) -> Meta:
    """Metadata of a field for documents of an API alone: its description, and `limits` as keywords of JSON Schema.

    Decoding does not check the limits: the gateway's validation does, with an error that names field, limit and value.
    """
    return Meta(description=text, extra_json_schema=limits)


class EngineOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Options of a job that reach its engine. A field added here is one of `wire.Job` and of `wire.EngineRequest`.

    Every API accepts it, as each accepts the fields of `JobOptions`.
    """

    params: Annotated[dict[str, Any], schema("The engine's own parameters; the model's card has their schema.")] = {}
    seed: Annotated[
        int,
        schema("Equal seeds and inputs make equal audio, if the engine is deterministic.", minimum=0, maximum=MAX_SEED),
    ] = 0


class JobOptions(EngineOptions, frozen=True, kw_only=True, omit_defaults=True):
    """Options of a job that a request to any API may have. Written by the client, completed by validation.

    A field added here is one of `wire.Job`, and accepted over HTTP and NATS, without another list of fields.
    """

    version: Annotated[str, schema("Version of the model; empty: the one on offer, or the subject's.")] = ""
    lane: Annotated[str, schema("Empty: the API's default, or the subject's.", enum=["", *LANES])] = ""
    #: The process that writes the birth fills it in.
    expires_at: (
        Annotated[
            datetime, schema("With an offset from UTC, within 12 h; null: the lane's default.", format="date-time")
        ]
        | None
    ) = None
    first_audio_deadline_s: (
        Annotated[
            float,
            schema("Seconds until its first audio, or it expires.", exclusiveMinimum=0, maximum=MAX_DEADLINE_S),
        ]
        | None
    ) = None
    run_on: Annotated[bool, schema("Whether it goes on without listeners; null: the API's default.")] | None = None
    linger_s: Annotated[
        float, schema("Seconds that it waits for a listener to return.", minimum=0, maximum=MAX_LINGER_S)
    ] = 0.0
