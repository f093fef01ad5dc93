"""Where the files of a voice come from: a folder, or a server, whose files are kept until they are complete."""

import asyncio
import errno
import fcntl
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp import hdrs

from ops.errors import OpsError, UsageRefused

#: The largest file of a voice; an ONNX file has no more.
MAX_FILE_BYTES: Final = 2**31 - 1
#: Names of texts that publishers put beside a voice, most telling first.
LICENCES: Final = ("MODEL_CARD", "LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt")
_MAX_LICENCE_BYTES: Final = 256 << 10
_PIECE_BYTES: Final = 256 << 10
_SILENCE_S: Final = 30.0
_ALONE_S: Final = 600.0
_LOOK_S: Final = 0.1
_PART: Final = ".part"
_TAG: Final = ".etag"

#: Called with the name of a file, its bytes so far and in all.
OnProgress = Callable[[str, int, int | None], None]


def is_url(source: str) -> bool:
    """Whether a source is a server's."""
    return urlsplit(source).scheme in {"http", "https"}


def local_folder(source: str, name: str) -> Path:
    """The folder in or below `source` that has the voice. Raises UsageRefused, naming what is missing."""
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise UsageRefused(f"--from: {source} is no folder, and no URL that begins with http:// or https://")
    found = sorted(folder.rglob(f"{name}.onnx"))
    if not found:
        there = sorted(path.stem for path in folder.rglob("*.onnx"))[:5]
        raise UsageRefused(f"{source} has no {name}.onnx; it has {', '.join(there) or 'no voice'}")
    return found[0].parent


def licence_in(folder: Path) -> str:
    """The text of the licence in a folder, "" if there is none."""
    for name in LICENCES:
        path = folder / name
        if path.is_file():
            with path.open("rb") as file:
                text = file.read(_MAX_LICENCE_BYTES).decode(errors="replace")
            # It is a stranger's, and goes to a terminal: no escape sequence may hide or rewrite a line of it.
            return "\n".join("".join(filter(str.isprintable, line.expandtabs())) for line in text.splitlines())
    return ""


class Download:
    """Gets files below one URL into a folder. A file that breaks off stays as a part, and the next call goes on."""

    def __init__(self, url: str, folder: Path, on_progress: OnProgress) -> None:
        """`url`: that of the folder, or of a file in it. Raises UsageRefused if it is none."""
        parts = urlsplit(url)
        if parts.query or parts.fragment or not parts.netloc:
            raise UsageRefused(f"--from: {url} must be the URL of a folder, without ? and #")
        self._base = url.rpartition("/")[0] if url.endswith(".onnx") else url.rstrip("/")
        self._folder = folder
        self._on_progress = on_progress

    async def run(self, files: tuple[str, ...]) -> None:
        """Get `files`, and the licence if there is one. Raises OpsError; what is complete by then stays."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=_SILENCE_S)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            async with aiohttp.ClientSession(timeout=timeout) as session:
                for name in files:
                    await self._get(session, name)
                for name in LICENCES:
                    if await self._get(session, name, is_needed=False):
                        break
        except (aiohttp.ClientError, TimeoutError) as error:  # before OSError, which some of them are
            raise OpsError(
                f"{self._base}: {error or f'nothing came for {_SILENCE_S:g} s'}; run the command again, and it goes on "
                "from there"
            ) from error
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise OpsError(f"{self._folder}: {error.strerror or error}") from error
            self.discard()
            raise OpsError(f"no space is left in {self._folder}; what was there of the voice is removed") from error

    async def _get(self, session: aiohttp.ClientSession, name: str, *, is_needed: bool = True) -> bool:
        """Whether the file is there now."""
        done, part, tag = self._folder / name, self._folder / f"{name}{_PART}", self._folder / f"{name}{_TAG}"
        if done.exists():
            return True
        have, headers = part.stat().st_size if part.exists() else 0, {}
        if have and tag.exists():
            headers = {hdrs.RANGE: f"bytes={have}-", hdrs.IF_RANGE: tag.read_text()}
        async with session.get(f"{self._base}/{name}", headers=headers) as response:
            if response.status == HTTPStatus.NOT_FOUND and not is_needed:
                return False
            if response.status not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
                part.unlink(missing_ok=True)
                raise OpsError(f"{self._base}/{name}: {response.status} {response.reason}")
            if response.status == HTTPStatus.OK:
                have = 0
            rest = response.content_length
            self._check_room(name, have, rest)
            if response.headers.get(hdrs.ETAG):
                tag.write_text(response.headers[hdrs.ETAG])
            with part.open("ab" if have else "wb") as file:
                async for piece in response.content.iter_chunked(_PIECE_BYTES):
                    have += len(piece)
                    self._check_room(name, have, None)
                    file.write(piece)
                    file.flush()  # a command that is killed goes on here
                    self._on_progress(name, have, None if rest is None else file.tell() + rest - have)
                os.fsync(file.fileno())
        part.rename(done)
        tag.unlink(missing_ok=True)
        return True

    def _check_room(self, name: str, have: int, rest: int | None) -> None:
        """Raises OpsError for a file that is too large, or that the disk has no room for."""
        size = have + (rest or 0)
        if size > MAX_FILE_BYTES:
            self.discard()
            raise OpsError(f"{name} has {size:,} bytes or more; a file of a voice has at most {MAX_FILE_BYTES:,}")
        free = shutil.disk_usage(self._folder).free
        if rest is not None and rest > free:
            raise OpsError(
                f"{name} needs {rest:,} bytes, and {self._folder} has {free:,} free: make room, or name another --cache"
            )

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Keep other processes from the folder for the length of the block. Raises OpsError after 10 min."""
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        with self._folder.with_name(f"{self._folder.name}.lock").open("w") as lock:
            until = time.monotonic() + _ALONE_S
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise OpsError(f"another process uses {self._folder} for {_ALONE_S:g} s") from None
                    await asyncio.sleep(_LOOK_S)
            yield

    def discard(self) -> None:
        """Remove everything that was downloaded."""
        shutil.rmtree(self._folder, ignore_errors=True)
