"""Webhooks of a job: which events are delivered to which URL, and which of them are still pending. No I/O."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

#: In the order in which they happen to a job.
EventType = Literal["accepted", "started", "done", "failed", "cancelled", "expired"]


class Webhook(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The receiver of a job's events. It is stored in the log's birth and does not count for the job's digest."""

    url: Annotated[str, Meta(min_length=8, max_length=2048)]
    #: Events to deliver; default: all.
    events: tuple[EventType, ...] = ("accepted", "started", "done", "failed", "cancelled", "expired")
    #: Signs each delivery: `whsec_` and base64, or any other text. "": deliveries are not signed.
    secret: Annotated[str, Meta(max_length=256)] = ""


class HookProgress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The message in HOOKS: which events of one job are delivered. Each step replaces it."""

    #: When the first of these messages was made: Unix seconds, by the bus's clock.
    since: float
    #: Delivered, or given up.
    settled: tuple[EventType, ...] = ()
    #: Failed tries to deliver the next event.
    tries: int = 0
    #: Earliest next try: Unix seconds, by the bus's clock.
    due_at: float = 0.0
