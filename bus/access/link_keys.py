"""The secrets that links are signed with: one record in the bucket of the API keys, under a name that is no key's id.

The newest one signs. Those before it verify for as long as a link may live, so that a rotation ends no link, unless
the operator says so.
"""

import base64
import secrets
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from bus import wire
from bus.errors import ApiError, Conflict, Malformed
from bus.jobs.client import Bus
from bus.telemetry.logging import logger
from bus.transport.direct import Stored
from bus.transport.jetstream import EXPECT_LAST, WRONG_LAST_SEQUENCE, is_missing_stream

log = logger(__name__)

#: Seconds that a link may live at most.
MAX_LINK_S: Final = 7 * 24 * 3600
_SECRET_BYTES: Final = 32
_ID_BYTES: Final = 4
#: Tries of one change before it gives up because of concurrent changes.
_TRIES: Final = 10


class LinkKey(msgspec.Struct, frozen=True, kw_only=True):
    """One secret for HMAC-SHA256."""

    id: str
    #: 256 random bits, base64url without padding.
    secret: str
    created_at: datetime


class LinkKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The stored record."""

    #: Newest first; never empty.
    keys: list[LinkKey]

    def get(self, key_id: str) -> LinkKey | None:
        """Return the secret of this id; None if it is not in force."""
        return next((key for key in self.keys if key.id == key_id), None)


def read(stored: Stored) -> LinkKeys | None:
    """Return the record in an entry of the bucket; None if it was deleted by hand or is malformed, which is logged."""
    if stored.message.header("KV-Operation") is not None:
        return None
    try:
        found = wire.decode(LinkKeys, stored.message.data)
        if not found.keys:
            raise Malformed("the record has no key")
    except Malformed as error:
        log.warning("keys.entry_invalid", key="links", error=str(error))
        return None
    return found


def rotated(old: LinkKeys | None, now_s: float, *, end_links: bool) -> LinkKeys:
    """Return `old` with a new secret before those that links made until now may need. `now_s`: Unix seconds."""
    now = datetime.fromtimestamp(round(now_s, 3), UTC)
    secret = base64.urlsafe_b64encode(secrets.token_bytes(_SECRET_BYTES)).rstrip(b"=").decode()
    new = LinkKey(id=secrets.token_hex(_ID_BYTES), secret=secret, created_at=now)
    kept: list[LinkKey] = []
    replaced_at = now
    for key in [] if old is None or end_links else old.keys:
        if replaced_at + timedelta(seconds=MAX_LINK_S) <= now:
            break
        kept.append(key)
        replaced_at = key.created_at
    return LinkKeys(keys=[new, *kept])


class LinkKeyStore:
    """Reads and changes the record on the bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def ensure(self) -> LinkKeys:
        """Return the record; make it, and the bucket, if they are missing.

        Raises NotPermitted if this user may not make them; Conflict, Unreachable, Full.
        """
        found, _ = await self._find()
        return found or await self._change(end_links=False, only_if_missing=True)

    async def rotate(self, *, end_links: bool) -> LinkKeys:
        """Sign links with a new secret from now on. `end_links`: no link that was made before is valid any more.

        Raises NotPermitted, Conflict, Unreachable, Full.
        """
        return await self._change(end_links=end_links, only_if_missing=False)

    async def _change(self, *, end_links: bool, only_if_missing: bool) -> LinkKeys:
        await self._bus.topology.declare_bucket("keys")
        for _ in range(_TRIES):
            found, seq = await self._find()
            if found is not None and only_if_missing:
                return found
            new = rotated(found, self._bus.clock.now(), end_links=end_links)
            try:
                await self._bus.js.publish(self._bus.subjects.link_keys, wire.encode(new), {EXPECT_LAST: str(seq)})
            except ApiError as error:
                if error.err_code != WRONG_LAST_SEQUENCE:
                    raise
                continue  # another process was first, or it was our own publish whose acknowledgement was lost
            return new
        raise Conflict(f"the keys of links were changed by other processes {_TRIES} times meanwhile")

    async def _find(self) -> tuple[LinkKeys | None, int]:
        """The record, and the sequence of its entry; 0 without one."""
        try:
            stored = await self._bus.js.last(self._bus.subjects.keys_stream, self._bus.subjects.link_keys)
        except ApiError as error:
            if not is_missing_stream(error):
                raise
            return None, 0
        return (None, 0) if stored is None else (read(stored), stored.seq)
