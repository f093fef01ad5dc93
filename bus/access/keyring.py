"""API keys in the memory of one gateway, kept in step with their KV bucket.

A change publishes a notification on core NATS, which triggers a read of the new entries. Notifications may be lost, so
the bucket is also polled. While the bus is unreachable the keys loaded before stay in force.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from bus.access import link_keys
from bus.access.keys import Key, Limits, read
from bus.access.link_keys import LinkKeys
from bus.errors import ApiError, BusError
from bus.jobs.client import Bus
from bus.subjects import last_token
from bus.telemetry.logging import logger
from bus.transport.jetstream import is_missing_stream

log = logger(__name__)

#: A revoked key must be refused within 2 s, even if the notification was lost.
_POLL_S: Final = 1.0


class _Loaded:
    """The keys of a bucket, up to one sequence."""

    def __init__(self) -> None:
        self.keys: dict[str, Key] = {}
        self.link_keys: LinkKeys | None = None
        self.seq = 0
        #: Entries that the bucket had then.
        self.num_entries = 0
        #: When the bucket was created, as the server writes it; "": there was none.
        self.created = ""


class KeyRing:
    """The API keys, by id. `run` keeps them current."""

    def __init__(self, bus: Bus, poll_s: float = _POLL_S) -> None:
        self._bus = bus
        self._poll_s = poll_s
        self._loaded = _Loaded()
        self._changed = asyncio.Event()
        self._is_failing = False
        #: Whether the bucket has been read once: until then an unknown key may be a valid one.
        self.is_loaded = False

    def get(self, key_id: str) -> Key | None:
        """Return the key of this id, revoked or not."""
        return self._loaded.keys.get(key_id)

    @property
    def link_keys(self) -> LinkKeys | None:
        """The secrets that links are signed with; None before the first link, and until the bucket has been read."""
        return self._loaded.link_keys

    def tenants(self, wanted: Callable[[Limits], bool]) -> set[str]:
        """Return the tenants of the keys whose limits are `wanted`."""
        return {key.tenant for key in self._loaded.keys.values() if wanted(key.limits)}

    async def run(self) -> None:
        """Keep the keys current until cancelled."""
        changes = self._bus.connection.subscribe(self._bus.subjects.key_changes, lambda _: self._changed.set())
        try:
            while True:
                self._changed.clear()
                await self._try_refresh()
                try:
                    async with asyncio.timeout(self._poll_s):
                        await self._changed.wait()
                except TimeoutError:
                    continue  # no notification: poll
        finally:
            changes.close()

    async def _try_refresh(self) -> None:
        try:
            await self.refresh()
        except BusError as error:
            if not self._is_failing:
                log.warning("keys.load_failed", error=str(error), known=len(self._loaded.keys))
            self._is_failing = True
        else:
            self._is_failing = False

    async def refresh(self) -> None:
        """Read the entries that are new in the bucket. Raises Unreachable, ApiError; then nothing has changed."""
        stream = self._bus.subjects.keys_stream
        try:
            info = await self._bus.js.info(stream)
        except ApiError as error:
            if not is_missing_stream(error):
                raise
            self._loaded = _Loaded()
            self.is_loaded = True
            return
        state = info["state"]
        loaded = _Loaded()
        loaded.created = str(info["created"])
        loaded.num_entries = int(state["messages"])
        last_seq = int(state["last_seq"])
        old = self._loaded
        # Entries are replaced, never removed: fewer of them, or another bucket of the same name, come from an operator.
        if loaded.created == old.created and last_seq >= old.seq and loaded.num_entries >= old.num_entries:
            loaded.keys = dict(old.keys)
            loaded.link_keys = old.link_keys
            loaded.seq = old.seq
        if last_seq > loaded.seq:
            await self._read_new(loaded)
            log.debug("keys.loaded", known=len(loaded.keys), seq=loaded.seq)
        self._loaded = loaded
        self.is_loaded = True

    async def _read_new(self, loaded: _Loaded) -> None:
        """Read the entries of the bucket after `loaded.seq` into `loaded`."""
        stream, subject = self._bus.subjects.keys_stream, self._bus.subjects.all_keys
        num_pending = 1
        while num_pending:
            page, num_pending = await self._bus.js.direct.page(stream, subject, loaded.seq + 1)
            for stored in page:
                loaded.seq = stored.seq
                if stored.message.subject == self._bus.subjects.link_keys:
                    loaded.link_keys = link_keys.read(stored)
                    continue
                key = read(stored)
                if key is None:
                    loaded.keys.pop(last_token(stored.message.subject), None)
                else:
                    loaded.keys[key.id] = key
            if not page:
                break
