"""The blobs of one deployment: find, hold, read and remove them. `upload` adds one.

A blob exists once its record is written: its chunks come before, and go after. So a process that is killed leaves
chunks without a record at most, which `retention` purges.
"""

from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

import msgspec

from bus.blob_names import BlobNames
from bus.blobs.blob import Blob
from bus.errors import ApiError, Conflict, Malformed, NotFound
from bus.jobs.client import Bus
from bus.transport.jetstream import EXPECT_LAST, WRONG_LAST_SEQUENCE, is_missing_stream

#: Tries of one change before it gives up because of concurrent changes.
_TRIES: Final = 10


class StoredBlob(NamedTuple):
    """A blob and the sequence of its record."""

    blob: Blob
    seq: int


class BlobStore:
    """All methods raise Unreachable and ApiError."""

    def __init__(self, bus: Bus) -> None:
        self.names = BlobNames(bus.subjects.root)
        self._bus = bus

    async def find(self, owner: str, digest: str) -> StoredBlob | None:
        """The blob of `owner` with this digest, from the leader; None if it has none.

        Raises ValueError for text that is no digest, Malformed for a record that was not written here.
        """
        try:
            stored = await self._bus.js.last(self.names.stream, self.names.record(owner, digest))
        except ApiError as error:
            if is_missing_stream(error):
                return None
            raise
        return None if stored is None else StoredBlob(Blob.decode(stored.message.data), stored.seq)

    async def get(self, owner: str, digest: str) -> StoredBlob:
        """As `find`. Raises NotFound for one that `owner` does not have, whatever the text."""
        try:
            found = await self.find(owner, digest)
        except ValueError as error:
            raise _unknown(f"digest: {error}") from error
        if found is None:
            raise _unknown(f"digest: {owner} has put no blob {digest}, or it has expired")
        return found

    async def keep(self, owner: str, digest: str, *, expires_at: float = 0.0, held_until: float = 0.0) -> Blob:
        """Keep a blob at least so long; it never ends earlier than before. Raises NotFound, Conflict."""
        for _ in range(_TRIES):
            blob, seq = await self.get(owner, digest)
            kept = msgspec.structs.replace(
                blob,
                expires_at=max(blob.expires_at, expires_at),
                held_until=max(blob.held_until, held_until),
            )
            if kept == blob or await self.write(kept, seq):
                return kept
        raise _busy(digest)

    async def write(self, blob: Blob, expected_seq: int) -> bool:
        """Write the record if the one before has this sequence, 0 for none; False if it has another."""
        # Older records of the subject go with it, as in any object bucket.
        headers = {EXPECT_LAST: str(expected_seq), "Nats-Rollup": "sub"}
        subject = self.names.record(blob.owner, blob.digest)
        try:
            await self._bus.js.publish(subject, blob.encode(self.names.bucket), headers)
        except ApiError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise
            # It may be ours, if the answer to it was lost.
            stored = await self._bus.js.last(self.names.stream, subject)
            return stored is not None and Blob.decode(stored.message.data) == blob
        return True

    async def remove(self, found: StoredBlob) -> bool:
        """Remove a blob, unless its record was written again since it was found; whether it is gone.

        Cancelling leaves a whole blob, or chunks that `retention` purges.
        """
        blob, seq = found
        await self._purge(self.names.record(blob.owner, blob.digest), seq + 1)
        if await self.find(blob.owner, blob.digest) is not None:
            return False
        await self.purge_chunks(blob.upload)
        return True

    async def delete(self, owner: str, digest: str, now_s: float) -> None:
        """Remove a blob of `owner`. Raises NotFound; Conflict while an accepted job names it."""
        for _ in range(_TRIES):
            found = await self.get(owner, digest)
            if found.blob.held_until > now_s:
                left_s = found.blob.held_until - now_s
                raise _conflict(f"digest: an accepted job names {digest}, for {left_s:.0f} s at most")
            if await self.remove(found):
                return
        raise _busy(digest)

    async def purge_chunks(self, upload: str) -> None:
        """Remove the chunks of an upload that has no record; idempotent."""
        await self._purge(self.names.chunks(upload))

    async def _purge(self, subject: str, before_seq: int = 0) -> None:
        body: dict[str, Any] = {"filter": subject} | ({"seq": before_seq} if before_seq else {})

        async def once() -> None:
            await self._bus.js.api(f"STREAM.PURGE.{self.names.stream}", body)

        await self._bus.js.retry(f"purge {subject}", once)

    async def num_chunks(self, upload: str = "") -> dict[str, int]:
        """Chunks stored of each upload, or of this one; empty without a bucket."""
        wanted = self.names.chunks(upload) if upload else self.names.all_chunks
        counts: dict[str, int] = {}
        while True:
            try:
                info = await self._info({"subjects_filter": wanted, "offset": len(counts)})
            except ApiError as error:
                if is_missing_stream(error):
                    return {}
                raise
            page: dict[str, int] = info["state"].get("subjects") or {}
            counts |= {subject.rpartition(".")[2]: count for subject, count in page.items()}
            if not page or len(counts) >= info.get("total", 0):
                return counts

    async def _info(self, body: dict[str, Any]) -> dict[str, Any]:
        async def once() -> dict[str, Any]:
            return await self._bus.js.api(f"STREAM.INFO.{self.names.stream}", body)

        return await self._bus.js.retry(f"read the info of {self.names.stream}", once)

    async def all(self) -> AsyncIterator[StoredBlob]:
        """Every blob, from any replica; a record that was not written here is left out. There must be a bucket."""
        seq, num_pending = 0, 1
        while num_pending:
            page, num_pending = await self._bus.js.direct.page(self.names.stream, self.names.all_records, seq + 1)
            for stored in page:
                seq = stored.seq
                try:
                    yield StoredBlob(Blob.decode(stored.message.data), seq)
                except Malformed:
                    continue  # another program's object: it is not ours to read or to remove
            if not page:
                return


def _unknown(text: str) -> NotFound:
    error = NotFound(text)
    error.path = "digest"
    return error


def _conflict(text: str) -> Conflict:
    error = Conflict(text)
    error.path = "digest"
    return error


def _busy(digest: str) -> Conflict:
    return _conflict(f"digest: {digest} was changed by other processes {_TRIES} times meanwhile")
