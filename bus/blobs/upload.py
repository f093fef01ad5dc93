"""Puts one blob: chunks as the bytes come, then the record. The bytes are never in memory as a whole."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from typing import Final

from bus.blob_names import new_upload
from bus.blobs.blob import CHUNK_BYTES, Blob
from bus.blobs.store import BlobStore, StoredBlob
from bus.errors import BusError, Conflict, Full, StorageFull, Unreachable
from bus.jobs.client import Bus
from bus.telemetry.logging import logger
from bus.transport.jetstream import MESSAGE_ID

log = logger(__name__)

#: Between two chunks of one upload at most; `retention` purges chunks without a record long after it.
MAX_PAUSE_S: Final = 300.0
#: Limit of removing the chunks of an upload that failed; `retention` has the rest.
_ABANDON_S: Final = 5.0
_TRIES: Final = 10


class Upload:
    """One upload; `uploading` makes it."""

    def __init__(self, bus: Bus, store: BlobStore, owner: str) -> None:
        """Raises ValueError if `owner` is no token."""
        self.id = new_upload(owner)
        self._bus = bus
        self._store = store
        self._owner = owner
        self._rest = bytearray()
        self._sha256 = hashlib.sha256()
        self.num_bytes = 0
        self.num_chunks = 0

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes so far."""
        return self._sha256.hexdigest()

    async def write(self, data: bytes) -> None:
        """Add bytes, and store the chunks that they complete. Raises StorageFull, Unreachable, ApiError."""
        self._sha256.update(data)
        self.num_bytes += len(data)
        self._rest += data
        while len(self._rest) >= CHUNK_BYTES:
            await self._store_chunk(bytes(self._rest[:CHUNK_BYTES]))
            del self._rest[:CHUNK_BYTES]

    async def _store_chunk(self, data: bytes) -> None:
        # Published again if the answer is lost: the id keeps the server from storing it twice.
        headers = {MESSAGE_ID: f"{self.id}.{self.num_chunks}"}
        try:
            await self._bus.js.publish(self._store.names.chunks(self.id), data, headers)
        except Full as error:
            raise StorageFull(f"{self._store.names.stream} has no room for {len(data)} bytes more: {error}") from error
        self.num_chunks += 1

    async def commit(self, expires_at: float) -> tuple[Blob, bool]:
        """Store the rest and the record; returns the blob and whether it is new to its owner.

        `expires_at`: Unix seconds. A blob of the same bytes stays as it is, and lasts at least as long. Raises as
        `write`, and Conflict if others change it all the time.
        """
        if self._rest:
            await self._store_chunk(bytes(self._rest))
            self._rest.clear()
        await self._check_chunks()
        blob = Blob(
            owner=self._owner,
            digest=self.digest,
            num_bytes=self.num_bytes,
            num_chunks=self.num_chunks,
            upload=self.id,
            expires_at=expires_at,
        )
        for _ in range(_TRIES):
            found = await self._store.find(self._owner, blob.digest)
            if found is not None and await self._is_whole(found):
                return await self._store.keep(self._owner, blob.digest, expires_at=expires_at), False
            if await self._store.write(blob, found.seq if found is not None else 0):
                return blob, True
        raise Conflict(f"digest: {blob.digest} was changed by other processes {_TRIES} times meanwhile")

    async def _is_whole(self, found: StoredBlob) -> bool:
        """False: a damaged store has lost chunks of it, and these ones take their place."""
        counts = await self._store.num_chunks(found.blob.upload)
        return counts.get(found.blob.upload, 0) == found.blob.num_chunks

    async def _check_chunks(self) -> None:
        """A process that was frozen for so long that its chunks were purged must not write their record."""
        stored = (await self._store.num_chunks(self.id)).get(self.id, 0)
        if stored != self.num_chunks:
            raise Unreachable(
                f"the upload paused for so long that {self.num_chunks - stored} of its {self.num_chunks} chunks were "
                "removed; send it again"
            )

    async def abandon(self) -> None:
        """Remove the chunks. Raises nothing: what is left, retention removes."""
        try:
            async with asyncio.timeout(_ABANDON_S):
                await self._store.purge_chunks(self.id)
        except (BusError, TimeoutError) as error:
            log.warning("blob.abandon_failed", upload=self.id, error=str(error) or type(error).__name__)


@contextlib.asynccontextmanager
async def uploading(bus: Bus, store: BlobStore, owner: str, *, declares: bool = True) -> AsyncIterator[Upload]:
    """An upload for the length of the block; if no record names its chunks then, they are removed.

    The bucket is made if it is missing, with the limits of the settings, unless `declares` is off. Raises ValueError if
    `owner` is no token; Unreachable, TopologyMismatch.
    """
    upload = Upload(bus, store, owner)
    if declares:
        await bus.topology.declare_blobs()
    try:
        yield upload
    finally:
        await _settle(store, upload)


async def _settle(store: BlobStore, upload: Upload) -> None:
    """Remove the chunks unless the blob has them: the answer to its record may be what was lost."""
    if not upload.num_bytes:
        return
    try:
        async with asyncio.timeout(_ABANDON_S):
            found = await store.find(owner=upload.id.partition("=")[0], digest=upload.digest)
    except (BusError, TimeoutError) as error:
        log.warning("blob.abandon_failed", upload=upload.id, error=str(error) or type(error).__name__)
        return
    if found is None or found.blob.upload != upload.id:
        await upload.abandon()
