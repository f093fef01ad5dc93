"""The inside of a helper process that owns a speech library: a loop that forks a child for every text.

A child starts from the same memory each time, so what it says depends on its request alone, whatever was said before,
and a library that crashes takes one text with it. Standard input is a socket; over it come the ends of other sockets,
one per text (`speaker.py` is the other side). Imports the standard library only: this is what a voice waits for.
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
#: Kind and length, before what it announces. A text that was spoken to its end is closed by END.
FRAME = struct.Struct("<cI")
PCM, WORDS, END, ERROR = b"P", b"W", b"E", b"X"
#: Frame of the utterance, position and length in its text in characters: one word, as `WORDS` has many of.
WORD = struct.Struct("<QII")

#: A text that keeps the library busy for so long is a defect of the library.
_CPU_LIMIT_S = 120


class Sink(Protocol):
    """Takes s16le PCM, not empty, and the words that begin in it, as `WORD` has them.

    False when nobody listens any more and the library should stop.
    """

    def __call__(self, pcm: bytes, words: Iterable[tuple[int, int, int]] = ()) -> bool: ...


class Library(Protocol):
    """A speech library, ready to speak."""

    def speak(self, request: Mapping[str, Any], sink: Sink) -> None: ...


def serve(open_library: Callable[[], Library]) -> None:
    """Say on standard input whether the library opened, speak until the other side closes it, and leave the process.

    SIGINT and SIGTERM are left to the worker: it may still be finishing jobs when its whole group is told to stop.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children: the kernel reaps them
    control = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    # A child that kept standard input would keep the socket open after the helper's death, and requests would vanish.
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())
    library: Library | None = None
    try:
        library = open_library()
        word = b"ready\n"
    except (OSError, RuntimeError) as error:
        word = f"{error}\n".encode()
    try:
        control.sendall(word)
    except OSError:
        os._exit(0)  # whoever started us has gone meanwhile
    if library is None:
        return
    helper_pid = os.getpid()
    while True:
        try:
            word, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        except ConnectionResetError:
            word = b""
        if not word:
            # Without goodbyes: a library's own clean-up may wait for threads that wait for nobody knows what.
            os._exit(0)
        with socket.socket(fileno=descriptors[0]) as conversation:
            if os.fork() == 0:
                control.close()
                _child(library, conversation, helper_pid)


def _child(library: Library, conversation: socket.socket, helper_pid: int) -> None:
    """Speak one text and leave the process, whatever happens: the loop is the parent's."""
    try:
        die_with_parent(helper_pid)  # else it would speak on for a while after the helper was killed
        resource.setrlimit(resource.RLIMIT_CPU, (_CPU_LIMIT_S, _CPU_LIMIT_S))
        _speak(library, conversation)
    except Exception as error:  # noqa: BLE001 - the one who asked hears of it, and raises
        message = f"{type(error).__name__}: {error}".encode()
        with contextlib.suppress(OSError):  # nobody listens any more
            conversation.sendall(FRAME.pack(ERROR, len(message)) + message)
    finally:
        os._exit(0)


def _speak(library: Library, conversation: socket.socket) -> None:
    with conversation.makefile("rb") as stream:
        (length,) = LENGTH.unpack(stream.read(LENGTH.size))
        request = json.loads(stream.read(length))

    def sink(pcm: bytes, words: Iterable[tuple[int, int, int]] = ()) -> bool:
        told = b"".join(WORD.pack(*word) for word in words)
        head = FRAME.pack(WORDS, len(told)) + told if told else b""
        try:
            conversation.sendall(head + FRAME.pack(PCM, len(pcm)) + pcm)
        except OSError:  # nobody listens any more
            return False
        return True

    library.speak(request, sink)
    conversation.sendall(FRAME.pack(END, 0))
