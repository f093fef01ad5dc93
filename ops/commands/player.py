"""Plays a WAV that streams, with the first player program that this machine has."""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO

from ops.errors import OpsError

#: In order of preference. FILE stands for the path of the WAV; a player without it reads the stream from stdin.
_PLAYERS = (
    ("aplay", "-q", "-"),
    ("paplay", "FILE"),
    ("afplay", "FILE"),
    ("ffplay", "-loglevel", "error", "-nodisp", "-autoexit", "-i", "-"),
)

_MAX_REASON_BYTES = 400


class Player:
    """Takes the bytes of a WAV by `write`, then `finish`. Leaving its block earlier stops the sound."""

    def __init__(self) -> None:
        """Raises OpsError if this machine has no player."""
        found = next((player for player in _PLAYERS if shutil.which(player[0])), None)
        if found is None:
            names = ", ".join(player[0] for player in _PLAYERS)
            raise OpsError(f"no player found ({names}); write a file instead with -o FILE, or to stdout with -o -")
        self._argv = found
        self._process: subprocess.Popen[bytes] | None = None
        self._file: IO[bytes] | None = None
        #: The player writes here; the flags of every player leave only errors.
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__

    def __enter__(self) -> "Player":
        if "FILE" in self._argv:
            self._file = tempfile.NamedTemporaryFile(suffix=".wav")
        else:
            self._process = subprocess.Popen(self._argv, stdin=subprocess.PIPE, stderr=self._errors)
        return self

    def write(self, data: bytes) -> None:
        """Pass bytes to the player; blocks while its buffer is full. Raises OpsError if it has exited."""
        sink = self._file if self._process is None else self._process.stdin
        assert sink is not None
        try:
            sink.write(data)
            sink.flush()
        except BrokenPipeError as error:
            raise self._failed() from error

    def path(self) -> Path | None:
        """The file that `finish` will play; None for a player that reads a stream."""
        return Path(self._file.name) if self._file else None

    def finish(self) -> None:
        """Wait until the last sample has been played. Raises OpsError if the player failed."""
        if self._file is not None:
            argv = [self._file.name if part == "FILE" else part for part in self._argv]
            self._process = subprocess.Popen(argv, stderr=self._errors)
        assert self._process is not None
        if self._process.stdin is not None:
            self._process.stdin.close()
        # ffplay exits with 0 on a machine without a loudspeaker, and only writes why.
        if self._process.wait() != 0 or self._reason():
            raise self._failed()

    def _failed(self) -> OpsError:
        reason = self._reason()
        return OpsError(
            f"{self._argv[0]} cannot play{f': {reason}' if reason else ''}; write a file instead with -o FILE"
        )

    def _reason(self) -> str:
        """The first line that the player has written to stderr."""
        self._errors.seek(0)
        return self._errors.read(_MAX_REASON_BYTES).decode(errors="replace").strip().partition("\n")[0]

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._file is not None:
            self._file.close()
        self._errors.close()
