"""Server-sent events, as the HTML standard frames them."""

from typing import Final

CONTENT_TYPE: Final = "text/event-stream; charset=utf-8"


def event(kind: str, data: bytes, event_id: int | None = None) -> bytes:
    """One event with its final empty line. `data`: UTF-8, of any number of lines.

    `kind`: its name; "" for an event without one. `event_id`: sent back by the client as `Last-Event-ID`; without one
    the client keeps the id it has.
    """
    lines = [] if event_id is None else [b"id: %d\n" % event_id]
    if kind:
        lines.append(b"event: %b\n" % kind.encode())
    lines += [b"data: %b\n" % line for line in data.splitlines() or [b""]]
    return b"".join([*lines, b"\n"])
