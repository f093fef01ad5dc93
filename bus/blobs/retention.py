"""Removes blobs whose time is over, and chunks that no record names. Every gateway does this.

Twice does no harm: a blob is removed only if its record is the one that was looked at.
"""

import asyncio
from collections.abc import Collection
from typing import Final

from bus.blobs.blob import VOICES, Blob
from bus.blobs.store import BlobStore
from bus.blobs.upload import MAX_PAUSE_S
from bus.blobs.uploaded import UploadedVoices
from bus.blobs.voices import VoiceRecords
from bus.errors import ApiError, BusError
from bus.jobs.client import Bus
from bus.telemetry.logging import logger
from bus.transport.clock import parse_time
from bus.transport.jetstream import is_missing_stream

log = logger(__name__)

_LOOK_S: Final = 30.0
#: Chunks without a record whose newest one is older than this belong to an upload that has ended.
_ORPHAN_S: Final = 3 * MAX_PAUSE_S


class BlobRetention:
    """Purges the blobs of one deployment."""

    def __init__(
        self,
        bus: Bus,
        uploaded: UploadedVoices,
        look_s: float = _LOOK_S,
        orphan_s: float = _ORPHAN_S,
    ) -> None:
        """`uploaded`: voices whose clips stay. `look_s`: interval of `run`.

        `orphan_s`: age of chunks that are removed if no record names them.
        """
        self._bus = bus
        self._store = BlobStore(bus)
        self._voices = VoiceRecords(bus)
        self._uploaded = uploaded
        self._look_s = look_s
        self._orphan_s = orphan_s

    async def run(self) -> None:
        """Call `look` again and again until cancelled. A failed one is logged."""
        while True:
            try:
                await self.look()
            except BusError as error:
                log.warning("blob.retention_failed", error=str(error))  # the next look tries again
            await asyncio.sleep(self._look_s)

    async def look(self) -> None:
        """Purge once. Cancelling leaves whole blobs, or chunks for a later look. Raises Unreachable, ApiError."""
        # Before the records: chunks whose record is written in between are named by it.
        uploads = await self._store.num_chunks()
        if not uploads:
            return
        try:
            found = [each async for each in self._store.all()]
        except ApiError as error:
            if is_missing_stream(error):
                return
            raise
        now_s = self._bus.clock.now()
        ended = [each for each in found if each.blob.ends_at < now_s]
        voices = await self._voices.files() if any(each.blob.owner == VOICES for each in ended) else ()
        if ended:
            await self._uploaded.refresh()
        num_blobs = 0
        for each in ended:
            if not (_is_of(voices, each.blob) or self._uploaded.names(each.blob.owner, each.blob.digest)):
                num_blobs += await self._store.remove(each)
        num_orphans = 0
        for upload in uploads.keys() - {each.blob.upload for each in found}:
            num_orphans += await self._purge_if_left(upload)
        if num_blobs or num_orphans:
            log.info("blob.purged", blobs=num_blobs, uploads=num_orphans)

    async def _purge_if_left(self, upload: str) -> bool:
        """Remove the chunks of an upload that has stored none for long; whether there were such."""
        last = await self._bus.js.last(self._store.names.stream, self._store.names.chunks(upload))
        if last is None or parse_time(last.stored_at) > self._bus.clock.server_now() - self._orphan_s:
            return False
        await self._store.purge_chunks(upload)
        return True


def _is_of(voices: Collection[str], blob: Blob) -> bool:
    return blob.owner == VOICES and blob.digest in voices
