"""The keys as one gateway knows them: read from the bucket, kept in memory, kept up to date.

A change rings a bell on core NATS, and the ring reads what is new; without a bell it looks by itself every `look_s`. So
a bell that gets lost costs a second. While the bus does not answer, what is known goes on.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from bus.access.keys import Key, Limits, read
from bus.errors import ApiError, BusError
from bus.jobs.client import Bus
from bus.subjects import last_token
from bus.telemetry.logging import logger
from bus.transport.jetstream import is_missing_stream

log = logger(__name__)

#: A revoked key must be refused within 2 s, bell or no bell.
_LOOK_S: Final = 1.0


class KeyRing:
    def __init__(self, bus: Bus, look_s: float = _LOOK_S) -> None:
        self._bus, self._look_s = bus, look_s
        self._keys: dict[str, Key] = {}
        #: How far the bucket has been read, how many entries it had then, and when it was made.
        self._seq, self._num_entries, self._created = 0, 0, ""
        self._bell = asyncio.Event()
        self._is_lost = False
        #: Whether the bucket has been read once: until then an unknown key may be a good one.
        self.is_read = False

    def get(self, key_id: str) -> Key | None:
        """The key of this id, revoked or not."""
        return self._keys.get(key_id)

    def tenants(self, wanted: Callable[[Limits], bool]) -> set[str]:
        """Of the known keys whose limits are `wanted`."""
        return {key.tenant for key in self._keys.values() if wanted(key.limits)}

    async def run(self) -> None:
        """Keep up until cancelled."""
        bell = self._bus.connection.subscribe(self._bus.subjects.keys_bell, lambda _: self._bell.set())
        try:
            while True:
                self._bell.clear()
                await self._try_look()
                try:
                    async with asyncio.timeout(self._look_s):
                        await self._bell.wait()
                except TimeoutError:
                    continue  # no bell: that is what the look is for
        finally:
            bell.close()

    async def _try_look(self) -> None:
        try:
            await self.look()
        except BusError as error:
            if not self._is_lost:
                log.warning("keys.load_failed", error=str(error), known=len(self._keys))
            self._is_lost = True
        else:
            self._is_lost = False

    async def look(self) -> None:
        """Read what the bucket has and we do not. Raises Unreachable, ApiError; then all stays as it was."""
        stream = self._bus.subjects.keys_stream
        try:
            info = await self._bus.js.info(stream)
        except ApiError as error:
            if not is_missing_stream(error):
                raise
            self._keys, self._seq, self._num_entries, self._created, self.is_read = {}, 0, 0, "", True
            return
        created, state = str(info["created"]), info["state"]
        last_seq, num_entries = int(state["last_seq"]), int(state["messages"])
        # Entries are replaced, never removed: fewer, or another bucket of the same name, is somebody's hand in it.
        is_other = created != self._created or last_seq < self._seq or num_entries < self._num_entries
        if is_other or last_seq > self._seq:
            known = ({}, 0) if is_other else (dict(self._keys), self._seq)
            self._keys, self._seq = await self._read(*known)
            log.debug("keys.loaded", known=len(self._keys), seq=self._seq)
        self._num_entries, self._created, self.is_read = num_entries, created, True

    async def _read(self, keys: dict[str, Key], seq: int) -> tuple[dict[str, Key], int]:
        """`keys` brought up to date from `seq` on, and the sequence that they have then."""
        pending = 1
        while pending:
            page, pending = await self._bus.js.direct.page(
                self._bus.subjects.keys_stream, self._bus.subjects.all_keys, seq + 1
            )
            for stored in page:
                seq = stored.seq
                key = read(stored)
                if key is None:
                    keys.pop(last_token(stored.message.subject), None)
                else:
                    keys[key.id] = key
            if not page:
                break
        return keys, seq
