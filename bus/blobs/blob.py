"""One blob: bytes that a tenant has put, named by their SHA-256. Its record is an object's of NATS ADR-20."""

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from bus import wire
from bus.blob_names import digest_in_base64, object_name, parse_object
from bus.errors import Malformed

#: Bytes of every chunk but the last. A blob counts in whole chunks against the share of its owner.
CHUNK_BYTES: Final = 128 << 10
#: Owner of the files of installed voices. No key and no subject may act for it.
VOICES: Final = "_voices"


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a blob."""

    #: The tenant that put it, or `VOICES`. Only its owner can name it: digests of others are answered as unknown.
    owner: str
    #: SHA-256 of its bytes, 64 hexadecimal digits.
    digest: str
    num_bytes: int
    num_chunks: int
    #: Id of the upload whose chunks it has.
    upload: str
    #: Unix seconds, the bus's clock. It stays until then, and as long as `held_until` says.
    expires_at: float
    #: Deadline of the last of the accepted jobs that name it; 0 for none.
    held_until: float = 0.0

    @property
    def ends_at(self) -> float:
        """When it may be removed, Unix seconds."""
        return max(self.expires_at, self.held_until)

    def encode(self, bucket: str) -> bytes:
        """The record as the bucket has it."""
        times = {"expires_at": str(self.expires_at), "held_until": str(self.held_until)}
        return wire.encode(
            _Object(
                name=object_name(self.owner, self.digest),
                bucket=bucket,
                nuid=self.upload,
                size=self.num_bytes,
                chunks=self.num_chunks,
                digest=digest_in_base64(self.digest),
                mtime=datetime.now(UTC).isoformat(),
                metadata=times,
                options={"max_chunk_size": CHUNK_BYTES},
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> "Blob":
        """The blob of a record. Raises Malformed for one that was not written here."""
        found = wire.decode(_Object, data)
        try:
            owner, digest = parse_object(found.name)
            return cls(
                owner=owner,
                digest=digest,
                num_bytes=found.size,
                num_chunks=found.chunks,
                upload=found.nuid,
                expires_at=float(found.metadata["expires_at"]),
                held_until=float(found.metadata["held_until"]),
            )
        except (ValueError, KeyError) as error:
            raise Malformed(f"record of the object {found.name[:100]!r}: {error}") from error


class _Object(msgspec.Struct, frozen=True, kw_only=True):
    """`ObjectInfo` of ADR-20."""

    name: str
    bucket: str
    nuid: str
    size: int
    chunks: int
    digest: str
    mtime: str
    metadata: dict[str, str] = {}
    options: dict[str, Any] = {}
