"""Blobs on the disk of this machine: fetched once, bounded in bytes, the longest unused removed first.

A file is complete from the moment it has its name: it is written under another one, checked, and renamed. A run gets
hard links of its own, so whatever removes a file from the cache, this process or another one with the same folder, does
not take it away from a run. The store is asked for the owner's record each time: that a file is here gives no right.
"""

import asyncio
import errno
import fcntl
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from bus.blob_names import is_digest
from bus.blobs.blob import Blob
from bus.blobs.reading import BlobDamaged, read_blob
from bus.blobs.store import BlobStore
from bus.errors import BusError, NotFound
from bus.jobs.client import Bus

#: Unfinished files and links of processes that were killed are removed when they are older.
_STALE_S: Final = 24 * 3600.0
#: A folder younger than this may not be locked yet by the process that has made it.
_YOUNG_S: Final = 60.0
_OWN: Final = "antiphon-blobs-"
_LOCK: Final = "lock"
_PART: Final = "part-"
_HELD: Final = "held-"


class WantedFile(NamedTuple):
    """A blob that a run reads, by whose it is."""

    owner: str
    digest: str
    #: False: the run has the only copy.
    is_cached: bool = True


class OwnFolder:
    """A temporary folder of this process alone. Those of processes that were killed are removed on the way."""

    def __init__(self) -> None:
        _remove_abandoned(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=_OWN))
        self._lock = (self.path / _LOCK).open("w")
        # Held as long as this process lives, however it ends.
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Remove it with its files."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


class FileUnavailable(Exception):
    """The store does not have the blob of the file `name`, or has other bytes."""

    def __init__(self, name: str, reason: BusError) -> None:
        super().__init__(str(reason))
        self.name = name


class BlobCache:
    """One folder. Several processes may use it."""

    def __init__(self, bus: Bus, folder: str, max_bytes: int) -> None:
        """`folder`: "" for one of this process alone, made at its first use. `max_bytes`: of the files in it."""
        self._bus = bus
        self._store = BlobStore(bus)
        self._folder = Path(folder).expanduser() if folder else None
        self._own: OwnFolder | None = None
        self._max_bytes = max_bytes
        #: One fetch of a blob at a time.
        self._fetches: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def hold(self, wanted: Mapping[str, WantedFile], on_piece: Callable[[], None]) -> Path:
        """A new folder with a file of each name; `release` removes it. `on_piece` is called as bytes arrive.

        Cancelling leaves the cache whole, and no folder. Raises FileUnavailable for a blob that its owner does not
        have, and for a damaged one; Unreachable; OSError if the disk refuses.
        """
        folder = await asyncio.to_thread(self._new_folder)
        try:
            for name, file in wanted.items():
                try:
                    await self._link(file, folder / name, on_piece)
                except (NotFound, BlobDamaged) as error:
                    raise FileUnavailable(name, error) from error
        except BaseException:
            self.release(folder)
            raise
        return folder

    @staticmethod
    def release(held: Path) -> None:
        """Remove a folder that `hold` made. Idempotent."""
        shutil.rmtree(held, ignore_errors=True)

    def close(self) -> None:
        """Remove the folder, if it is this process's alone."""
        if self._own is not None:
            self._own.remove()

    async def _link(self, file: WantedFile, to: Path, on_piece: Callable[[], None]) -> None:
        blob = (await self._store.get(file.owner, file.digest)).blob
        lock = self._fetches.setdefault(file.digest, asyncio.Lock())
        async with lock:
            if not await asyncio.to_thread(_try_link, to.parent.parent / blob.digest, to):
                await self._fetch(blob, to, on_piece, is_cached=file.is_cached)

    async def _fetch(self, blob: Blob, to: Path, on_piece: Callable[[], None], *, is_cached: bool) -> None:
        folder = to.parent.parent
        part = folder / f"{_PART}{uuid.uuid4().hex}"
        try:
            await asyncio.to_thread(self._make_room, folder, blob)
            with await asyncio.to_thread(part.open, "wb") as file:
                async for piece in read_blob(self._bus, blob):
                    on_piece()
                    await asyncio.to_thread(file.write, piece)
            os.link(part, to)
            if is_cached:
                part.rename(folder / blob.digest)
        finally:
            part.unlink(missing_ok=True)

    def _new_folder(self) -> Path:
        if self._folder is None:
            self._own = OwnFolder()
            self._folder = self._own.path
        self._folder.mkdir(parents=True, exist_ok=True)
        remove_stale(self._folder)
        return Path(tempfile.mkdtemp(prefix=_HELD, dir=self._folder))

    def _make_room(self, folder: Path, blob: Blob) -> None:
        """Remove the longest unused files until `blob` fits. Raises OSError if it never does."""
        if blob.num_bytes > self._max_bytes:
            raise OSError(
                errno.EFBIG,
                f"blob {blob.digest} has {blob.num_bytes} bytes, and the cache of this worker {self._max_bytes} "
                "(--blob-cache-bytes)",
            )
        files = sorted(_files(folder), reverse=True)
        total = sum(size for _, size, _ in files)
        while files and total + blob.num_bytes > self._max_bytes:
            _, size, path = files.pop()
            path.unlink(missing_ok=True)
            total -= size


def _try_link(cached: Path, to: Path) -> bool:
    """Link a file of the cache, and note its use; False if it is not there."""
    try:
        os.link(cached, to)
    except FileNotFoundError:
        return False
    os.utime(to)
    return True


def _files(folder: Path) -> list[tuple[float, int, Path]]:
    """(time of the last use, bytes, path) of each whole file that is there."""
    found = []
    for path in folder.iterdir():
        if is_digest(path.name):
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            found.append((stat.st_mtime, stat.st_size, path))
    return found


def remove_stale(folder: Path) -> None:
    """Remove what processes left behind that were killed."""
    before = time.time() - _STALE_S
    for path in folder.iterdir():
        if path.name.startswith((_PART, _HELD)):
            try:
                if path.stat().st_mtime < before:
                    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            except FileNotFoundError:
                continue


def _remove_abandoned(parent: Path) -> None:
    """Remove the own folders of processes that have ended without doing so."""
    for path in parent.glob(f"{_OWN}*"):
        try:
            if time.time() - path.stat().st_mtime < _YOUNG_S:
                continue
            with (path / _LOCK).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
        except OSError:  # another user's, one in use, or one that another process removes just now
            continue
