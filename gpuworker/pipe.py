"""What the worker and its engine host say to each other over a socket pair.

    to the host    u32 length, then MessagePack of Start | Stop | Credit | Quit
    to the worker  u32 length, u8 form, u32 handle, then
                     form 0   u64 first frame, s16le PCM
                     form 1   MessagePack of Loaded | Unavailable | Weighs | Advance | Checkpoint | Finished | Broken
                     form 2   u64 first frame, u32 length, MessagePack of that length: an array of the `wire.Mark`s
                              that begin in the audio, s16le PCM

`handle` numbers the jobs of one host from 1; 0 speaks of the host itself. Lengths count what follows them.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from bus import wire
from bus.settings import LogFormat, LogLevel

AUDIO: Final = 0
WORD: Final = 1
MARKED: Final = 2

Marks = tuple[wire.Mark, ...]

_LENGTH: Final = struct.Struct("<I")
_HEAD: Final = struct.Struct("<IBI")
_AUDIO_HEAD: Final = struct.Struct("<IBIQ")
_MARKED_HEAD: Final = struct.Struct("<IBIQI")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The host's only argument, as JSON."""

    #: Its end of the socket pair, inherited.
    fd: int
    #: Memory of the StepMark, inherited.
    mark_fd: int
    #: Where it notes what it was doing when it crashes, inherited.
    crash_fd: int
    models: list[str]
    device: str = "cpu"
    allow_faults: bool = False
    #: As the worker's own, and whose host it is.
    log_level: LogLevel = "info"
    log_format: LogFormat = "auto"
    process: str = "host"


class Start(msgspec.Struct, frozen=True, kw_only=True, tag="start", array_like=True):
    """Run a job. Its audio is wanted from `start_frame` on."""

    handle: int
    model: str
    id: str
    input: str
    voice: str
    params: dict[str, Any]
    seed: int
    start_frame: int
    attempt: int
    checkpoint: bytes | None = None


class Stop(msgspec.Struct, frozen=True, tag="stop", array_like=True):
    """Stop a job; nothing more is said of it. Unknown handles are ignored: the job may just have ended."""

    handle: int


class Credit(msgspec.Struct, frozen=True, tag="credit", array_like=True):
    """So many bytes of a job's PCM are on the bus; as many more may be made."""

    handle: int
    num_bytes: int


class Quit(msgspec.Struct, frozen=True, tag="quit", array_like=True):
    """End the process."""


class Loaded(msgspec.Struct, frozen=True, tag="loaded", array_like=True):
    model: str
    took_s: float


class Unavailable(msgspec.Struct, frozen=True, tag="unavailable", array_like=True):
    """The model cannot be served by this host."""

    model: str
    reason: str


class Weighs(msgspec.Struct, frozen=True, tag="weighs", array_like=True):
    """So much device memory the host's process holds; None: nobody can tell any more."""

    num_bytes: int | None


class Advance(msgspec.Struct, frozen=True, tag="advance", array_like=True):
    """Progress without audio."""

    phase: str
    done: float
    total: float | None


class Checkpoint(msgspec.Struct, frozen=True, tag="checkpoint", array_like=True):
    frame: int
    data: bytes


class Finished(msgspec.Struct, frozen=True, tag="finished", array_like=True):
    facts: dict[str, Any]


class Broken(msgspec.Struct, frozen=True, tag="broken", array_like=True):
    """The job failed; `code` is one of `bus.errors.JobError.by_code`."""

    code: str
    message: str
    path: str = ""
    traceback: str = ""


Command = Start | Stop | Credit | Quit
Word = Loaded | Unavailable | Weighs | Advance | Checkpoint | Finished | Broken

_encoder = msgspec.msgpack.Encoder()
_command: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_word: msgspec.msgpack.Decoder[Word] = msgspec.msgpack.Decoder(Word)
_marks: msgspec.msgpack.Decoder[Marks] = msgspec.msgpack.Decoder(Marks)


def command(message: Command) -> bytes:
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


def word(handle: int, message: Word) -> bytes:
    body = _encoder.encode(message)
    return _HEAD.pack(5 + len(body), WORD, handle) + body


def audio(handle: int, first_frame: int, pcm: bytes, marks: Marks = ()) -> bytes:
    if marks:
        told = _encoder.encode(marks)
        head = _MARKED_HEAD.pack(17 + len(told) + len(pcm), MARKED, handle, first_frame, len(told))
        return head + told + pcm
    return _AUDIO_HEAD.pack(13 + len(pcm), AUDIO, handle, first_frame) + pcm


class CommandReader:
    """Takes bytes in any pieces, gives whole commands."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Command]:
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


class WordReader:
    """Takes bytes in any pieces, calls back for each whole frame."""

    def __init__(
        self, on_audio: Callable[[int, int, bytes, Marks], None], on_word: Callable[[int, Word], None]
    ) -> None:
        """`on_audio(handle, first_frame, pcm, marks)`, `on_word(handle, word)`."""
        self._on_audio, self._on_word = on_audio, on_word
        self._rest = b""

    def feed(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        pos, end = 0, len(data)
        while end - pos >= 9:
            length, form, handle = _HEAD.unpack_from(data, pos)
            after = pos + 4 + length
            if after > end:
                break
            if form == AUDIO:
                (first_frame,) = struct.unpack_from("<Q", data, pos + 9)
                self._on_audio(handle, first_frame, data[pos + 17 : after], ())
            elif form == MARKED:
                first_frame, size = struct.unpack_from("<QI", data, pos + 9)
                marks = _marks.decode(data[pos + 21 : pos + 21 + size])
                self._on_audio(handle, first_frame, data[pos + 21 + size : after], marks)
            else:
                self._on_word(handle, _word.decode(data[pos + 9 : after]))
            pos = after
        self._rest = data[pos:] if pos else data


class StepMark:
    """16 bytes of memory that both processes see: which job the host is stepping, and since when.

    When a host dies or hangs, this names the job that did it; the others on the same host are not to blame.
    """

    SIZE: Final = 16
    _FORM: Final = struct.Struct("<Qd")

    def __init__(self, memory: Any) -> None:
        self._memory = memory

    def enter(self, handle: int, now_s: float) -> None:
        self._FORM.pack_into(self._memory, 0, handle, now_s)

    def leave(self) -> None:
        self._FORM.pack_into(self._memory, 0, 0, 0.0)

    def read(self) -> tuple[int, float]:
        """(handle or 0, CLOCK_MONOTONIC seconds when its step began)."""
        handle, since_s = self._FORM.unpack_from(self._memory, 0)
        return handle, since_s
