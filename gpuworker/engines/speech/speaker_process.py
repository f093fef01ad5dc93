"""The inside of a helper process that owns a speech library: a loop that forks a child for every text.

A child starts from the same memory each time, so its audio depends on its request alone, not on earlier ones, and a
library that crashes takes one text with it. Standard input is a socket; it carries the ends of other sockets, one per
text (`speaker.py` is the other end). Imports the standard library only: the first audio waits for these imports.
"""

import contextlib
import json
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from bus.process import die_with_parent

#: A request's length, before its JSON.
LENGTH = struct.Struct("<I")
#: Kind and length of the message that follows. A text that was spoken to its end is closed by END.
FRAME = struct.Struct("<cI")
PCM = b"P"
WORDS = b"W"
END = b"E"
ERROR = b"X"
#: What was found out about the text, as JSON, before END; only if there is something.
REPORT = b"R"
#: One word of a WORDS message: its frame in the utterance, its position and length in the text, in characters.
WORD = struct.Struct("<QII")

#: A text that keeps the library busy for longer is a defect of the library.
_CPU_LIMIT_S = 120


class Sink(Protocol):
    """Takes s16le PCM, not empty, and the words that begin in it, with the fields of `WORD`.

    Returns False when the connection is closed and the library should stop.
    """

    def __call__(self, pcm: bytes, words: Iterable[tuple[int, int, int]] = ()) -> bool: ...


class LoadedLibrary(Protocol):
    """A speech library in this process, ready to speak."""

    def speak(self, request: Mapping[str, Any], sink: Sink) -> Mapping[str, Any]:
        """Speak the `text` of `request` into `sink`, to its end or until `sink` returns False.

        Returns what there is to report about it, for JSON; mostly nothing.
        """
        ...


def serve(open_library: Callable[[], LoadedLibrary]) -> None:
    """Report on standard input whether the library opened, speak until the other end closes it, and end the process.

    SIGINT and SIGTERM are ignored: a worker whose whole process group gets them may still finish its jobs.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no wait for the children: the kernel reaps them
    control = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    # A child that kept standard input would keep the socket open after the helper's death, and requests would vanish.
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())
    library: LoadedLibrary | None = None
    try:
        library = open_library()
        status = b"ready\n"
    except (OSError, RuntimeError) as error:
        status = f"{error}\n".encode()
    try:
        control.sendall(status)
    except OSError:
        os._exit(0)  # the process that started us has ended meanwhile
    if library is None:
        return
    helper_pid = os.getpid()
    while True:
        try:
            request, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        except ConnectionResetError:
            request = b""
        if not request:
            # Without the interpreter's clean-up: a library's own may wait for its threads for ever.
            os._exit(0)
        with socket.socket(fileno=descriptors[0]) as connection:
            if os.fork() == 0:
                control.close()
                _child(library, connection, helper_pid)


def _child(library: LoadedLibrary, connection: socket.socket, helper_pid: int) -> None:
    """Speak one text and leave the process, whatever happens: the loop is the parent's."""
    try:
        die_with_parent(helper_pid)  # else it would speak on for a while after the helper was killed
        resource.setrlimit(resource.RLIMIT_CPU, (_CPU_LIMIT_S, _CPU_LIMIT_S))
        _speak(library, connection)
    except Exception as error:  # noqa: BLE001  # the engine gets the error, and raises it
        message = f"{type(error).__name__}: {error}".encode()
        with contextlib.suppress(OSError):  # the connection is closed
            connection.sendall(FRAME.pack(ERROR, len(message)) + message)
    finally:
        os._exit(0)


def _speak(library: LoadedLibrary, connection: socket.socket) -> None:
    with connection.makefile("rb") as stream:
        (length,) = LENGTH.unpack(stream.read(LENGTH.size))
        request = json.loads(stream.read(length))

    def sink(pcm: bytes, words: Iterable[tuple[int, int, int]] = ()) -> bool:
        body = b"".join(WORD.pack(*word) for word in words)
        head = FRAME.pack(WORDS, len(body)) + body if body else b""
        try:
            connection.sendall(head + FRAME.pack(PCM, len(pcm)) + pcm)
        except OSError:  # the connection is closed
            return False
        return True

    report = library.speak(request, sink)
    body = json.dumps(report).encode() if report else b""
    head = FRAME.pack(REPORT, len(body)) + body if body else b""
    connection.sendall(head + FRAME.pack(END, 0))
