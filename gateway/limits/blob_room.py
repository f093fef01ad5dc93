"""Room in the bucket of blobs, shared among tenants.

What is stored is counted by the server, in one request, for whichever gateway stored it; what the uploads of this
process will still store is added. Two gateways may together grant a little more than there is: the stream's own limit
then refuses the chunk.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bus.blob_names import owner_of
from bus.blobs.blob import CHUNK_BYTES
from bus.blobs.store import BlobStore
from bus.errors import StorageFull
from bus.fair_pool import FairPool, Refusal
from gateway.limits.refusals import log_reached, too_many_bytes

BLOBS: Final = "blobs_max_bytes"


class BlobRoom:
    """One gateway's view of the bucket."""

    def __init__(self, store: BlobStore, capacity_bytes: int) -> None:
        """`capacity_bytes`: the most that all owners may store."""
        self._store = store
        self._capacity_bytes = capacity_bytes
        #: Chunks that uploads here have reserved and not yet stored, by owner.
        self._pending: Counter[str] = Counter()
        self._counting = asyncio.Lock()

    @contextmanager
    def place(self, owner: str) -> Iterator["Place"]:
        """The room of one upload, none at first. The end of the block gives back what was not stored."""
        place = Place(self, owner)
        try:
            yield place
        finally:
            place.stored(place.num_chunks)

    async def take(self, owner: str, num_chunks: int) -> None:
        """For `Place.grow`."""
        async with self._counting:
            pool = FairPool(self._capacity_bytes)
            for upload, count in (await self._store.num_chunks()).items():
                pool.add(owner_of(upload), count * CHUNK_BYTES)
            for each, count in self._pending.items():
                pool.add(each, count * CHUNK_BYTES)
            refusal = pool.refusal(owner, num_chunks * CHUNK_BYTES)
            if refusal is None:
                self._pending[owner] += num_chunks
                return
            self._refuse(owner, refusal, pool.total)

    def give_back(self, owner: str, num_chunks: int) -> None:
        """For `Place.stored`."""
        self._pending[owner] -= num_chunks
        if not self._pending[owner]:
            del self._pending[owner]

    def _refuse(self, owner: str, refusal: Refusal, total: float) -> None:
        if not refusal.is_own:
            raise StorageFull(
                f"{BLOBS}: the blobs of all tenants have {total:,.0f} of {self._capacity_bytes:,} bytes; this one, of "
                f"tenant {owner}, needs {refusal.asked:,.0f} more"
            )
        error = too_many_bytes(owner, refusal, BLOBS, self._capacity_bytes)
        log_reached(owner, f"tenant-{owner}", error)
        raise error


class Place:
    """The room that one upload has reserved."""

    def __init__(self, room: BlobRoom, owner: str) -> None:
        """`BlobRoom.place` makes it."""
        self._room = room
        self._owner = owner
        #: Chunks that are reserved and not yet stored.
        self.num_chunks = 0

    async def grow(self, num_bytes: int) -> None:
        """Reserve whole chunks for so many bytes.

        Raises TooMany if the tenant's share is used up, StorageFull if the bucket is; Unreachable.
        """
        num_chunks = -(-num_bytes // CHUNK_BYTES)
        await self._room.take(self._owner, num_chunks)
        self.num_chunks += num_chunks

    def stored(self, num_chunks: int) -> None:
        """So many of the chunks are stored, and counted by the server from now on."""
        num_chunks = min(num_chunks, self.num_chunks)
        self._room.give_back(self._owner, num_chunks)
        self.num_chunks -= num_chunks
