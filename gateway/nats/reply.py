"""Who asked at the NATS door: what is said to its inbox, and whether it is still there.

Every message bears a reply subject of ours, as a request does: when nobody subscribes to the inbox any more, the server
answers there with no-responders, and the caller has left (protocol rule 24). A caller in another account cannot be seen
leaving: the server never says no-responders of the inbox that it puts in between.
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
from gateway.codecs.wave import SAMPLE_BYTES
from gateway.http.problems import Problem, ProblemBody, describe
from gateway.jobs.pcm_reader import PcmReader, failure
from gateway.nats.errors import error_headers

#: Of a message of the door's own: `accepted`, `waiting`, `error`, and `end` on the empty one that ends an answer.
EVENT: Final = "Antiphon-Event"
JOB: Final = "Antiphon-Job"
#: As the server itself names a stored message's sequence.
SEQUENCE: Final = "Nats-Sequence"
_OURS: Final = b"Antiphon-"
#: Of sound in one line of JSON: its base64 is a third larger and must stay readable in a terminal's pipe.
_LINE_BYTES: Final = 32_766
#: What may be on its way to the server before it is waited for.
_UNSEEN_BYTES: Final = 256 << 10


class Caller:
    """One inbox outside. `end` may be called once; nothing is said after it."""

    def __init__(self, connection: Connection, inbox: str, probe: str) -> None:
        self._connection, self._inbox, self._probe = connection, inbox, probe
        self._unseen_bytes = 0
        #: Messages so far; a look at it tells whether something was said meanwhile.
        self.num_said = 0

    @classmethod
    @contextlib.contextmanager
    def at(cls, connection: Connection, inbox: str, left: Callable[[], object]) -> Iterator[Self]:
        """Speak to `inbox` for the length of the block; `left` is called, with nothing, when nobody is there."""

        def answered(message: Message) -> None:
            if message.status == "503":
                left()

        with connection.replies.inbox(answered) as probe:
            # Through accounts, each message with a reply subject would leave an entry of the server's behind.
            yield cls(connection, inbox, "" if is_of_another_account(inbox) else probe)

    def say(self, headers: Mapping[str, str], body: bytes) -> None:
        """Send one message that is not the last; an empty one would pass for it. Never waits."""
        assert body, "an empty message is the end"
        self.num_said += 1
        self._unseen_bytes += len(body)
        self._connection.publish(self._inbox, body, reply=self._probe, headers=dict(headers))

    def tell(self, event: str, told: Any, headers: Mapping[str, str] | None = None) -> None:
        """Say something of the door's own, as JSON."""
        self.say({EVENT: event, **(headers or {})}, msgspec.json.encode(told))

    def fail(self, problem: Problem) -> None:
        """Say what went wrong; then the answer is at its end."""
        self.tell("error", ProblemBody.of(problem), error_headers(problem))
        self.end()

    def end(self) -> None:
        """Send the empty message by which callers know that nothing follows."""
        self._connection.publish(self._inbox, b"", headers={EVENT: "end"})

    async def keep_up(self) -> None:
        """Wait for the server if much is on its way to it. Raises Unreachable."""
        if self._unseen_bytes >= _UNSEEN_BYTES:
            self._unseen_bytes = 0
            await self._connection.flush()


class RawVoice:
    """Says entries as they are stored."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def say(self, batch: list[Entry]) -> None:
        for entry in batch:
            if entry.payload:
                self._caller.say(headers_of(entry), entry.payload)


class JsonVoice:
    """Says each block as lines of JSON whose `audio` fields, put together, are one base64 text.

    So a line holds whole frames whose bytes are a multiple of three; what is over waits for the next line. The marks of
    a line's frames are in it.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._tape = PcmReader()
        self._rest = b""
        self._marks: list[wire.Mark] = []
        self._num_lines = 0

    def say(self, batch: list[Entry]) -> None:
        """Raises EngineFailed if a block does not fit those before it."""
        for entry in batch:
            self._rest += self._tape.feed([entry])
            self._marks += self._tape.marks
            if entry.kind == "block":
                self._lines({name: value for name, value in headers_of(entry).items() if name != MARKS})
            elif entry.is_end:
                self._lines({KIND: "block"}, flush=True)
                if entry.kind == "done":
                    self._tape.check_complete()
            if entry.kind not in {"block", "checkpoint"} and entry.payload:
                self._caller.say(headers_of(entry), entry.payload)

    def _lines(self, headers: dict[str, str], *, flush: bool = False) -> None:
        media = self._tape.media
        if media is None:
            return
        frame_bytes = media[1] * SAMPLE_BYTES
        frame = self._tape.frame - len(self._rest) // frame_bytes
        unit = 3 * frame_bytes
        size = max(unit, _LINE_BYTES // unit * unit)
        while len(self._rest) >= (1 if flush else unit):
            take = min(size, len(self._rest) if flush else len(self._rest) // unit * unit)
            after = frame + take // frame_bytes
            audio = base64.b64encode(self._rest[:take]).decode()
            told = {"seq": self._num_lines, "frame": frame, "audio": audio, **self._marks_before(after)}
            self._caller.say({**headers, FRAME: str(frame)}, msgspec.json.encode(told))
            self._rest, self._num_lines, frame = self._rest[take:], self._num_lines + 1, after
            headers = {KIND: "block"} | ({BLOCK: headers[BLOCK]} if BLOCK in headers else {})

    def _marks_before(self, frame: int) -> dict[str, list[wire.Mark]]:
        """Take them; nothing if there are none."""
        told = [mark for mark in self._marks if mark.frame < frame]
        self._marks = self._marks[len(told) :]
        return {"marks": told} if told else {}


def headers_of(entry: Entry) -> dict[str, str]:
    """The entry's headers that are for listeners, its place in the stream, and the error that it is, if it is one."""
    told = {SEQUENCE: str(entry.seq)}
    for line in (entry.message.head or b"").split(b"\r\n"):
        if line.startswith(_OURS):
            name, _, value = line.partition(b":")
            told[name.decode(errors="backslashreplace")] = value.strip().decode(errors="backslashreplace")
    if entry.is_end and entry.kind != "done":
        told |= error_headers(describe(failure(entry)))
    return told
