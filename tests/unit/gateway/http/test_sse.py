"""Server-sent events: every line of the data has a field of its own, and an id only where one is given."""

import pytest

from gateway.http import sse


@pytest.mark.parametrize(
    ("data", "event_id", "framed"),
    [
        (b'{"a":1}', None, b'event: x\ndata: {"a":1}\n\n'),
        (b"{}", 0, b"id: 0\nevent: x\ndata: {}\n\n"),
        (b"one\ntwo\r\nthree", 7, b"id: 7\nevent: x\ndata: one\ndata: two\ndata: three\n\n"),
        (b"", None, b"event: x\ndata: \n\n"),
    ],
)
def test_an_event_is_framed_line_by_line(data: bytes, event_id: int | None, framed: bytes) -> None:
    assert sse.event("x", data, event_id) == framed
