"""The reply to one NATS request: messages to the inbox of the caller, which must still be subscribed to it.

Every message has a reply subject of ours, as a request has: once no client subscribes to the inbox any more, the server
sends a no-responders status there, and the caller has left (protocol rule 24). A caller in another NATS account cannot
be seen leaving: the server sends no such status for the inbox that it puts in between.
"""

import base64
import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Self

import msgspec

from bus import wire
from bus.jobs.entry import BLOCK, FRAME, KIND, MARKS, Entry
from bus.transport.connection import Connection
from bus.transport.parser import Message
from bus.transport.replies import is_of_another_account
from gateway.codecs.format import SAMPLE_BYTES
from gateway.http.problems import Problem, ProblemBody, describe
from gateway.jobs.damaged_logs import Continuity
from gateway.jobs.pcm_reader import PcmReader, failure
from gateway.nats.errors import error_headers

#: Header of a message that is no entry of a log: `accepted`, `waiting`, `error`; `end` on the empty one that ends a
#: reply.
EVENT: Final = "Antiphon-Event"
JOB: Final = "Antiphon-Job"
#: Header with the sequence of a stored message, named as the server names it.
SEQUENCE: Final = "Nats-Sequence"
_OURS: Final = b"Antiphon-"
#: Bytes of audio in one line of JSON: its base64 is a third larger and must fit the pipe of a terminal.
_LINE_BYTES: Final = 32_766
#: Bytes that may be on their way to the server; beyond them the reply waits for it.
_UNFLUSHED_BYTES: Final = 256 << 10
_NO_RESPONDERS: Final = "503"


class Reply:
    """Messages to one inbox. Call `end` or `fail` once; no message follows it."""

    def __init__(self, connection: Connection, inbox: str, probe: str) -> None:
        """`probe`: the subject on which the server reports that no client subscribes to `inbox`; "": it cannot."""
        self._connection = connection
        self._inbox = inbox
        self._probe = probe
        self._unflushed_bytes = 0
        #: Messages so far.
        self.num_sent = 0

    @classmethod
    @contextlib.contextmanager
    def to(cls, connection: Connection, inbox: str, left: Callable[[], object]) -> Iterator[Self]:
        """The reply to `inbox`, for the length of the block. `left` is called when no client subscribes any more."""

        def on_status(message: Message) -> None:
            if message.status == _NO_RESPONDERS:
                left()

        with connection.replies.inbox(on_status) as probe:
            # Across accounts the server would keep state for each message that has a reply subject.
            yield cls(connection, inbox, "" if is_of_another_account(inbox) else probe)

    def send(self, headers: Mapping[str, str], body: bytes) -> None:
        """Send a message that is not the last; its body must not be empty. Never waits."""
        assert body, "an empty message ends the reply"
        self.num_sent += 1
        self._unflushed_bytes += len(body)
        self._connection.publish(self._inbox, body, reply=self._probe, headers=dict(headers))

    def send_event(self, event: str, body: Any, headers: Mapping[str, str] | None = None) -> None:
        """Send a message that is no entry of a log, as JSON."""
        self.send({EVENT: event, **(headers or {})}, msgspec.json.encode(body))

    def fail(self, problem: Problem) -> None:
        """Report the problem, and end the reply."""
        self.send_event("error", ProblemBody.of(problem), error_headers(problem))
        self.end()

    def end(self) -> None:
        """Send the empty message by which callers know that no other follows."""
        self._connection.publish(self._inbox, b"", headers={EVENT: "end"})

    async def keep_up(self) -> None:
        """Wait for the server if many bytes are on their way to it. Raises Unreachable."""
        if self._unflushed_bytes >= _UNFLUSHED_BYTES:
            self._unflushed_bytes = 0
            await self._connection.flush()


class RawEntries:
    """Sends the entries of a log as they are stored."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._continuity = Continuity(from_start=True)

    def send(self, batch: list[Entry]) -> None:
        """Send the entries that have a payload, in order. Raises LogDamaged if a block does not continue the last."""
        for entry in batch:
            self._continuity.feed(entry)
            if entry.payload:
                self._reply.send(headers_of(entry), entry.payload)


class JsonEntries:
    """Sends each block as lines of JSON, whose `audio` fields in a row are one base64 text.

    Each line thus holds whole frames, and a multiple of three bytes; the rest waits for the next line. A line has the
    marks of its frames.
    """

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._reader = PcmReader()
        self._rest = b""
        self._marks: list[wire.Mark] = []
        self._num_lines = 0

    def send(self, batch: list[Entry]) -> None:
        """Send the entries in order. Raises LogDamaged if a block does not continue those before it."""
        for entry in batch:
            self._rest += self._reader.feed([entry])
            self._marks += self._reader.marks
            if entry.kind == "block":
                self._send_lines({name: value for name, value in headers_of(entry).items() if name != MARKS})
            elif entry.is_end:
                self._send_lines({KIND: "block"}, flush=True)
                if entry.kind == "done":
                    self._reader.check_complete()
            if entry.kind not in {"block", "checkpoint"} and entry.payload:
                self._reply.send(headers_of(entry), entry.payload)

    def _send_lines(self, headers: dict[str, str], *, flush: bool = False) -> None:
        """Send the complete lines; with `flush` the rest too. `headers`: of the first line."""
        media = self._reader.media
        if media is None:
            return
        frame_bytes = media[1] * SAMPLE_BYTES
        frame = self._reader.frame - len(self._rest) // frame_bytes
        unit = 3 * frame_bytes
        size = max(unit, _LINE_BYTES // unit * unit)
        while len(self._rest) >= (1 if flush else unit):
            take = min(size, len(self._rest) if flush else len(self._rest) // unit * unit)
            after = frame + take // frame_bytes
            audio = base64.b64encode(self._rest[:take]).decode()
            line = {"seq": self._num_lines, "frame": frame, "audio": audio, **self._take_marks(after)}
            self._reply.send({**headers, FRAME: str(frame)}, msgspec.json.encode(line))
            self._rest = self._rest[take:]
            self._num_lines += 1
            frame = after
            headers = {KIND: "block"} | ({BLOCK: headers[BLOCK]} if BLOCK in headers else {})

    def _take_marks(self, before: int) -> dict[str, list[wire.Mark]]:
        """The field `marks` of a line whose frames end at `before`; empty without marks."""
        taken = [mark for mark in self._marks if mark.frame < before]
        self._marks = self._marks[len(taken) :]
        return {"marks": taken} if taken else {}


def headers_of(entry: Entry) -> dict[str, str]:
    """The entry's own headers, its sequence, and the error headers of an end other than `done`."""
    headers = {SEQUENCE: str(entry.seq)}
    for line in (entry.message.head or b"").split(b"\r\n"):
        if line.startswith(_OURS):
            name, _, value = line.partition(b":")
            headers[name.decode(errors="backslashreplace")] = value.strip().decode(errors="backslashreplace")
    if entry.is_end and entry.kind != "done":
        headers |= error_headers(describe(failure(entry)))
    return headers
