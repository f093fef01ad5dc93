"""What is to be told of a job, where, and how far that has come. No I/O."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

#: In the order in which a job can come to them.
Told = Literal["accepted", "started", "done", "failed", "cancelled", "expired"]


class Webhook(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Whom to tell of a job. It stands in the log's birth, not in the job's digest."""

    url: Annotated[str, Meta(min_length=8, max_length=2048)]
    #: All of them by default.
    events: tuple[Told, ...] = ("accepted", "started", "done", "failed", "cancelled", "expired")
    #: Signs what is sent; "": nothing is signed. `whsec_` and base64, or any other text.
    secret: Annotated[str, Meta(max_length=256)] = ""


class Due(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far the telling of one job has come: the message in HOOKS. Each step replaces it."""

    #: Unix seconds, the bus's clock.
    since: float
    #: Sent, or given up.
    settled: tuple[Told, ...] = ()
    #: Failed tries to send the next one.
    tries: int = 0
    #: Not before this.
    due_at: float = 0.0
