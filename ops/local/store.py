"""Streams of a private nats-server that it cannot recover: named, and moved aside. Nothing is ever deleted."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bus.telemetry.logging import logger
from ops.errors import OpsError
from ops.local.system import called

log = logger(__name__)

#: The health of a server that has started without one of its streams.
_UNRECOVERED: Final = re.compile(r"stream '(?P<account>\S+) > (?P<stream>[A-Za-z0-9_-]+)' could not be recovered")
#: The end of a line of the server's log that is about a file.
_LOG_LINE: Final = re.compile(r"\[(?:WRN|ERR)\]\s*(?P<text>.*)")
#: By the end of a stream's name: the contents that are lost with it.
_CONTENTS: Final = {
    "_JOBS": "queued and running jobs; they are listed and ended when the stack has started",
    "_REPLIES": "the logs of all jobs and their audio; queued jobs run again from their beginning",
    "_DEAD": "the dead letters",
    "_HOOKS": "webhook events that were not delivered yet",
    "_USAGE": "the audio charged to keys today",
    "_BLOBS": "the files that jobs name, and those of installed voices",
    "_LINKS": "the links that were revoked, so that those work again until their end",
    "_VOICES": "which voices are installed; `antiphon voices install` does it again",
    "_ROUTES": "the routes between versions of models; set them again with `antiphon route set`",
    "_KEYS": "all API keys and links; make new ones with `antiphon keys create`",
}


class StoreDamaged(OpsError):
    """A nats-server cannot recover a stream. The message names the stream, the file and the way on."""

    def __init__(self, stream: str, folder: Path, reason: str) -> None:
        """`folder`: that of the stream. `reason`: what the server says about a file in it."""
        super().__init__(
            f"nats-server cannot recover the stream {stream}: {reason}\n"
            f"Restore {folder} from a copy, or move it aside and go on without it:"
            f" {called()} up --recover, with the flags of this command\n"
            f"That keeps the folder, and loses {self.contents_of(stream)}."
        )
        self.stream = stream
        self.folder = folder
        self.reason = reason

    @staticmethod
    def contents_of(stream: str) -> str:
        """The contents of a stream, for people."""
        return next((text for end, text in _CONTENTS.items() if stream.endswith(end)), "its messages")


def check_recovered(state: Path, health: str) -> None:
    """Raises StoreDamaged if `health`, the error that the server on `state` reports, is a stream not recovered."""
    found = _UNRECOVERED.search(health)
    if found is None:
        return
    folder = state / "js" / "jetstream" / found["account"] / "streams" / found["stream"]
    raise StoreDamaged(found["stream"], folder, _reason(state / "server.log", folder) or health)


def _reason(server_log: Path, folder: Path) -> str:
    """The last line of the server's log about a file in `folder`; "" without one."""
    lines = server_log.read_text(errors="replace").splitlines() if server_log.exists() else []
    matches = (_LOG_LINE.search(line) for line in reversed(lines) if f"{folder}/" in line)
    return next((match["text"] for match in matches if match), "")


def move_aside(damaged: StoreDamaged, state: Path) -> Path:
    """Move the folder of a damaged stream to `state/damaged/`, under its name and the time; returns where it is now.

    The server on `state` must not run. Raises OpsError if the folder cannot be moved.
    """
    kept = state / "damaged" / f"{damaged.stream}-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    try:
        kept.parent.mkdir(exist_ok=True)
        damaged.folder.rename(kept)
    except OSError as error:
        raise OpsError(f"cannot move {damaged.folder} to {kept}: {error.strerror}") from error
    log.error(
        "store.moved_aside",
        stream=damaged.stream,
        reason=damaged.reason,
        folder=str(kept),
        lost=StoreDamaged.contents_of(damaged.stream),
    )
    return kept
