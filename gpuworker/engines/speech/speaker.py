"""The engine's end of a helper process that owns a speech library: start it, have texts spoken, stop it.

Any number of texts may be spoken at once, independently of each other. `speaker_process.py` is the other end.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gpuworker.engines.speech.speaker_process import END, ERROR, FRAME, LENGTH, REPORT, WORD, WORDS

_PACKAGES = Path(__file__).resolve().parents[3]
_START_S = 20.0
#: A library that sends nothing for this long hangs.
_SILENCE_S = 20.0
_STOP_S = 5.0
_ERROR_CHARS = 2000


class SpeakerFailed(Exception):
    """The helper could not start, died, was silent too long or refused the text. The next text gets a fresh one."""


class Word(NamedTuple):
    """A word of an utterance, as the library reports it."""

    #: Frame of the utterance in which it begins.
    frame: int
    #: Position in the text of the request, in characters.
    start: int
    length: int


class Spoken(NamedTuple):
    """A piece of an utterance."""

    #: s16le mono, not empty, at the library's own rate.
    pcm: bytes
    #: The words that begin in it.
    words: tuple[Word, ...] = ()


class Speaker:
    """Owns one process from `start` (or the first text) to `stop`."""

    def __init__(self, module: str, arguments: Sequence[str] = ()) -> None:
        """The process runs the Python module `module` with `arguments`."""
        self._module = module
        self._arguments = tuple(arguments)
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """The helper process, if one was started and not stopped."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process and wait until the library is open; no effect if it is. Raises SpeakerFailed."""
        if self._process is not None and self._process.poll() is None:
            return
        self.stop()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-m", self._module, *self._arguments],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": str(_PACKAGES)},
            )
        self._control = ours
        ours.settimeout(_START_S)
        try:
            status = ours.recv(_ERROR_CHARS)
        except OSError as error:
            self._kill()
            raise SpeakerFailed(f"{self._module} did not start: {error}") from error
        if status != b"ready\n":
            self.stop()
            raise SpeakerFailed(f"{self._module} did not start: {status.decode().strip() or 'it died'}")

    def stop(self) -> None:
        """End the process and every utterance in it. Idempotent."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
        self.stop()

    def speak(
        self, request: Mapping[str, Any], on_report: Callable[[Mapping[str, Any]], object] = dict
    ) -> Generator[Spoken, None, None]:
        """Yield the audio of `request` as it is made. Closing the generator stops the library at its next word.

        `on_report` gets what the library reports about the text, before the generator ends, if there is anything.

        Raises:
            SpeakerFailed: at any point.
        """
        payload = json.dumps(request).encode()
        with self._connect() as connection:
            connection.settimeout(_SILENCE_S)
            try:
                connection.sendall(LENGTH.pack(len(payload)) + payload)
                with connection.makefile("rb") as stream:
                    yield from self._read(stream.read, request, on_report)
            except TimeoutError as error:
                pid = self.pid
                self._kill()
                raise SpeakerFailed(f"{self._module} (process {pid}) was silent for {_SILENCE_S:g} s") from error
            except (BrokenPipeError, ConnectionResetError) as error:
                raise self._died(request) from error

    def _connect(self) -> socket.socket:
        """Our end of a socket whose other end a running helper has."""
        ours, theirs = socket.socketpair()
        with theirs:
            self.start()
            try:
                self._hand_over(theirs)
            except OSError:  # it died since the last text: nothing was lost, a new one speaks this
                self._kill()
                self.start()
                self._hand_over(theirs)
        return ours

    def _hand_over(self, connection: socket.socket) -> None:
        assert self._control is not None
        socket.send_fds(self._control, [b"s"], [connection.fileno()])

    def _read(
        self,
        read: Callable[[int], bytes],
        request: Mapping[str, Any],
        on_report: Callable[[Mapping[str, Any]], object],
    ) -> Iterator[Spoken]:
        words: tuple[Word, ...] = ()
        while True:
            head = read(FRAME.size)
            if len(head) < FRAME.size:
                raise self._died(request)
            kind, length = FRAME.unpack(head)
            body = read(length)
            if len(body) < length:
                raise self._died(request)
            if kind == END:
                return
            if kind == ERROR:
                raise SpeakerFailed(f"{self._module}: {body.decode()}")
            if kind == REPORT:
                on_report(json.loads(body))
                continue
            if kind == WORDS:
                words = tuple(map(Word._make, WORD.iter_unpack(body)))
                continue
            yield Spoken(body, words)
            words = ()

    def _died(self, request: Mapping[str, Any]) -> SpeakerFailed:
        return SpeakerFailed(
            f"{self._module} (process {self.pid}) died while it spoke {str(request.get('text'))[:60]!r}"
        )
