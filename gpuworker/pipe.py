"""Messages between the worker and its engine host, over a socket pair.

    to the host    u32 length, then MessagePack of Increment | Start | Stop | Credit | Quit
    to the worker  u32 length, u8 form, u32 handle, then
                     form 0   u64 first frame, s16le PCM
                     form 1   MessagePack of a `ControlMessage`
                     form 2   u64 first frame, u32 length, MessagePack of that length: an array of the `wire.Mark`s
                              that begin in the audio, s16le PCM

`handle` numbers the jobs of one host from 1; 0 stands for the host itself. A length counts the bytes that follow it.
Both ends come from one installation, so the format may change from one version to the next.
"""

import math
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

import msgspec

from bus import wire

AUDIO: Final = 0
CONTROL: Final = 1
MARKED_AUDIO: Final = 2

Marks = tuple[wire.Mark, ...]

#: A message to the worker that is not urgent may wait this long, or for this many bytes, to leave with others.
_GATHER_S: Final = 0.001
_GATHER_BYTES: Final = 64 << 10

_LENGTH: Final = struct.Struct("<I")
_HEAD: Final = struct.Struct("<IBI")
_AUDIO_HEAD: Final = struct.Struct("<IBIQ")
_MARKED_HEAD: Final = struct.Struct("<IBIQI")


class Start(msgspec.Struct, frozen=True, kw_only=True, tag="start", array_like=True):
    """Run a job and send its audio from `start_frame` on."""

    handle: int
    request: wire.EngineRequest
    start_frame: int
    #: Counts from 1 over the life of the job.
    attempt: int
    #: Data of the job's latest checkpoint that does not grow, if there is one.
    checkpoint: bytes | None = None


class Increment(msgspec.Struct, frozen=True, tag="increment", array_like=True):
    """The next growing checkpoint of a job that is about to be started: oldest first, all before `Start`."""

    handle: int
    data: bytes


class Stop(msgspec.Struct, frozen=True, tag="stop", array_like=True):
    """Stop a job; the host sends no more of it. Unknown handles are ignored: the job may just have ended."""

    handle: int


class Credit(msgspec.Struct, frozen=True, tag="credit", array_like=True):
    """`num_bytes` of a job's PCM are stored on the bus, so the host may produce as many more."""

    handle: int
    num_bytes: int


class Quit(msgspec.Struct, frozen=True, tag="quit", array_like=True):
    """End the host process."""


class Loaded(msgspec.Struct, frozen=True, tag="loaded", array_like=True):
    """The model is ready; loading and warm-up took `took_s` seconds."""

    model: str
    took_s: float


class Unavailable(msgspec.Struct, frozen=True, tag="unavailable", array_like=True):
    """The model cannot be served by this host."""

    model: str
    reason: str


class Unready(msgspec.Struct, frozen=True, tag="unready", array_like=True):
    """The model is loaded, but no job of it can begin now. `Loaded` follows when one can."""

    model: str
    reason: str


class DeviceMemoryReport(msgspec.Struct, frozen=True, tag="device_memory", array_like=True):
    """Device memory that the host's process holds; None: no engine can measure it any more."""

    num_bytes: int | None


class Progress(msgspec.Struct, frozen=True, tag="progress", array_like=True):
    """Work that made no audio: `done` of `total` units in `phase`; the total is None if not known beforehand."""

    phase: str
    done: float
    total: float | None


class Checkpoint(msgspec.Struct, frozen=True, tag="checkpoint", array_like=True):
    """State from which another worker can continue the job at `frame`; if it `grows`, what is new in it."""

    frame: int
    data: bytes
    grows: bool = False


class Done(msgspec.Struct, frozen=True, tag="done", array_like=True):
    """The job is complete. `facts` are the engine's, JSON types only."""

    facts: dict[str, Any]
    #: Whether the engine knows that all words were spoken.
    is_verified: bool = False
    #: Tokens of the input that were not spoken, at most `wire.MAX_SKIPPED`.
    skipped: list[wire.Skipped] = []


class Failed(msgspec.Struct, frozen=True, tag="failed", array_like=True):
    """The job failed. `code` is one of `bus.errors.JobError.by_code`; `path` names the field at fault, if one is."""

    code: str
    message: str
    path: str = ""
    traceback: str = ""


class AttemptFailed(msgspec.Struct, frozen=True, tag="attempt_failed", array_like=True):
    """This attempt at the job failed, and the next one may succeed. `is_fault`: the circuit breaker counts it."""

    message: str
    is_fault: bool


Command = Start | Increment | Stop | Credit | Quit
ControlMessage = (
    Loaded | Unready | Unavailable | DeviceMemoryReport | Progress | Checkpoint | Done | Failed | AttemptFailed
)

_encoder = msgspec.msgpack.Encoder()
_command: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_control: msgspec.msgpack.Decoder[ControlMessage] = msgspec.msgpack.Decoder(ControlMessage)
_marks: msgspec.msgpack.Decoder[Marks] = msgspec.msgpack.Decoder(Marks)


def encode_command(message: Command) -> bytes:
    """A message to the host, with its length."""
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


def encode_control(handle: int, message: ControlMessage) -> bytes:
    """A message to the worker about job `handle`, or about the host itself (0)."""
    body = _encoder.encode(message)
    return _HEAD.pack(5 + len(body), CONTROL, handle) + body


def encode_audio(handle: int, first_frame: int, pcm: bytes, marks: Marks = ()) -> bytes:
    """Interleaved s16le `pcm` of job `handle` from `first_frame` on, and the marks that begin in it."""
    if marks:
        body = _encoder.encode(marks)
        head = _MARKED_HEAD.pack(17 + len(body) + len(pcm), MARKED_AUDIO, handle, first_frame, len(body))
        return head + body + pcm
    return _AUDIO_HEAD.pack(13 + len(pcm), AUDIO, handle, first_frame) + pcm


class CommandReader:
    """The host's end: splits a byte stream, received in any pieces, into commands."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Command]:
        """The commands that `data` completes. Raises msgspec.DecodeError. Exhaust it before the next call."""
        data = self._rest + data if self._rest else data
        pos = 0
        while len(data) - pos >= 4:
            (length,) = _LENGTH.unpack_from(data, pos)
            if len(data) - pos - 4 < length:
                break
            body = data[pos + 4 : pos + 4 + length]
            pos += 4 + length
            self._rest = data[pos:]
            yield _command.decode(body)
        self._rest = data[pos:]


class Outbox:
    """The host's end: gathers encoded messages and writes them to the socket, in order, many in one system call.

    Used by the device's thread alone.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._messages: list[bytes] = []
        #: Monotonic seconds at which the messages that wait have waited long enough, or are enough; inf without any.
        self.due_at = math.inf
        #: Bytes that wait to be written.
        self.num_bytes = 0
        #: The worker is gone, and every lease with it: further messages are dropped.
        self.is_closed = False

    def send(self, message: bytes, urgent: bool) -> None:
        """Write `message` with those that wait; one that is not urgent may wait for more."""
        if not self._messages:
            self.due_at = time.monotonic() + _GATHER_S
        self._messages.append(message)
        self.num_bytes += len(message)
        if self.num_bytes > _GATHER_BYTES:
            self.due_at = 0.0
        if urgent:
            self.flush()

    def flush(self) -> None:
        """Write all that wait; blocks while the worker does not read. Sets `is_closed` if the worker is gone."""
        if not self._messages:
            return
        data = b"".join(self._messages)
        self._messages.clear()
        self.num_bytes = 0
        self.due_at = math.inf
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            self.is_closed = True


class Receiver(Protocol):
    """Receives the messages of one job."""

    def on_audio(self, first_frame: int, pcm: bytes, marks: Marks) -> None:
        """Interleaved s16le `pcm` from `first_frame` on, and the marks that begin in it."""

    def on_control(self, message: ControlMessage) -> None:
        """A message about the job."""


class MessageReader:
    """The worker's end: splits a byte stream, received in any pieces, and passes each whole message on."""

    def __init__(self, receivers: Mapping[int, Receiver], on_host_message: Callable[[ControlMessage], None]) -> None:
        """`receivers`: by handle; messages of other handles are dropped. `on_host_message` gets those of handle 0."""
        self._receivers = receivers
        self._on_host_message = on_host_message
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Pass on each message that `data` completes. Raises msgspec.DecodeError."""
        data = self._rest + data if self._rest else data
        pos, end = 0, len(data)
        while end - pos >= 9:
            length, form, handle = _HEAD.unpack_from(data, pos)
            after = pos + 4 + length
            if after > end:
                break
            receiver = self._receivers.get(handle)
            if receiver is None:
                if not handle:
                    self._on_host_message(_control.decode(data[pos + 9 : after]))
            elif form == AUDIO:
                (first_frame,) = struct.unpack_from("<Q", data, pos + 9)
                receiver.on_audio(first_frame, data[pos + 17 : after], ())
            elif form == MARKED_AUDIO:
                first_frame, size = struct.unpack_from("<QI", data, pos + 9)
                marks = _marks.decode(data[pos + 21 : pos + 21 + size])
                receiver.on_audio(first_frame, data[pos + 21 + size : after], marks)
            else:
                receiver.on_control(_control.decode(data[pos + 9 : after]))
            pos = after
        self._rest = data[pos:] if pos else data
