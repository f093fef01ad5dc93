"""Reads the bytes of a blob, and checks them against its digest."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from typing import Final

from bus.blob_names import BlobNames
from bus.blobs.blob import Blob
from bus.errors import BusError
from bus.jobs.client import Bus
from bus.transport.direct import Stored

#: Chunks and bytes of one read.
_PAGE_CHUNKS: Final = 8
_PAGE_BYTES: Final = 1 << 20
#: How long a replica may lag behind the record of a blob.
_LAG_S: Final = 5.0
_LAG_PAUSE_S: Final = 0.1


class BlobDamaged(BusError):
    """The bytes that the store has of a blob are not those of its digest."""


async def read_blob(bus: Bus, blob: Blob) -> AsyncIterator[bytes]:
    """The bytes of a blob, in order. The last piece comes once all are checked against the digest.

    Raises BlobDamaged if the store has other bytes, or fewer; Unreachable.
    """
    checked, held, num_left = hashlib.sha256(), b"", blob.num_chunks
    async for stored in _chunks(bus, blob):
        data = stored.message.data
        checked.update(data)
        num_left -= 1
        if held:
            yield held
        held = data
    if num_left or checked.hexdigest() != blob.digest:
        raise BlobDamaged(
            f"blob {blob.digest}: the store has {blob.num_chunks - num_left} of {blob.num_chunks} chunks, and the "
            f"SHA-256 of them is {checked.hexdigest()}"
        )
    yield held


async def _chunks(bus: Bus, blob: Blob) -> AsyncIterator[Stored]:
    """At most as many chunks as the record counts. Waits for a replica that has fewer."""
    names, seq, num_left = BlobNames(bus.subjects.root), 0, blob.num_chunks
    lags_until = time.monotonic() + (_LAG_S if bus.settings.replicas > 1 else 0.0)
    while num_left:
        page, _ = await bus.js.direct.page(
            names.stream, names.chunks(blob.upload), seq + 1, batch=min(_PAGE_CHUNKS, num_left), max_bytes=_PAGE_BYTES
        )
        for stored in page:
            seq = stored.seq
            num_left -= 1
            yield stored
        if not page:
            if time.monotonic() > lags_until:
                return
            await asyncio.sleep(_LAG_PAUSE_S)
