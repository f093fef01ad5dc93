"""API keys in the memory of one gateway, kept in step with their KV bucket."""

from collections.abc import Callable

from bus.access import keys, record
from bus.access.keys import Key, Limits
from bus.access.link_keys import LinkKeys
from bus.access.markings import Markings
from bus.errors import BusError
from bus.jobs.client import Bus
from bus.subjects import LINKS_ENTRY, MARKINGS_ENTRY, last_token
from bus.telemetry.logging import logger
from bus.transport.bucket import POLL_S, BucketCopy, BucketNames
from bus.transport.direct import Stored

log = logger(__name__)

Entry = Key | LinkKeys | Markings


class KeyRing:
    """The API keys, by id. `run` keeps them current: a revoked key is refused within 2 s."""

    def __init__(self, bus: Bus, poll_s: float = POLL_S) -> None:
        subjects = bus.subjects
        names = BucketNames(subjects.keys_stream, subjects.key_prefix, subjects.all_keys, subjects.key_changes)
        #: All entries, by key.
        self.bucket = BucketCopy[Entry](bus.connection, bus.js, names, _read, poll_s)
        self.bucket.on_loaded = self._log_loaded
        self.bucket.on_failed = self._log_failed

    @property
    def is_loaded(self) -> bool:
        """Whether the bucket has been read once: until then an unknown key may be a valid one."""
        return self.bucket.is_loaded

    def get(self, key_id: str) -> Key | None:
        """Return the key of this id, revoked or not."""
        found = self.bucket.entries.get(key_id)
        return found if isinstance(found, Key) else None

    @property
    def link_keys(self) -> LinkKeys | None:
        """The secrets that links are signed with; None before the first link, and until the bucket has been read."""
        found = self.bucket.entries.get(LINKS_ENTRY)
        return found if isinstance(found, LinkKeys) else None

    def tenants(self, wanted: Callable[[Limits], bool]) -> set[str]:
        """Return the tenants of the keys whose limits are `wanted`."""
        return {key.tenant for key in self.bucket.entries.values() if isinstance(key, Key) and wanted(key.limits)}

    async def run(self) -> None:
        """Keep the keys current until cancelled."""
        await self.bucket.run()

    async def refresh(self) -> None:
        """Read the entries that are new in the bucket. Raises Unreachable, ApiError; then nothing has changed."""
        await self.bucket.refresh()

    def _log_loaded(self, seq: int) -> None:
        log.debug("keys.loaded", known=len(self.bucket.entries), seq=seq)

    def _log_failed(self, error: BusError) -> None:
        log.warning("keys.load_failed", error=str(error), known=len(self.bucket.entries))


def _read(stored: Stored) -> Entry | None:
    name = last_token(stored.message.subject)
    if name == LINKS_ENTRY:
        return record.read(LinkKeys, stored)
    return record.read(Markings, stored) if name == MARKINGS_ENTRY else keys.read(stored)
