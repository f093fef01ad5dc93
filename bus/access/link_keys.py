"""The secrets that links are signed with: one record in the bucket of the API keys, under a name that is no key's id.

The newest one signs. Those before it verify for as long as a link may live, so that a rotation ends no link, unless
the operator says so.
"""

import base64
import secrets
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from bus.access.record import Record
from bus.jobs.client import Bus

#: Seconds that a link may live at most.
MAX_LINK_S: Final = 7 * 24 * 3600
_SECRET_BYTES: Final = 32
_ID_BYTES: Final = 4


class LinkKey(msgspec.Struct, frozen=True, kw_only=True):
    """One secret for HMAC-SHA256."""

    id: str
    #: 256 random bits, base64url without padding.
    secret: str
    created_at: datetime


class LinkKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The stored record."""

    #: Newest first.
    keys: Annotated[list[LinkKey], Meta(min_length=1)]

    def get(self, key_id: str) -> LinkKey | None:
        """Return the secret of this id; None if it is not in force."""
        return next((key for key in self.keys if key.id == key_id), None)


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
        self._clock = bus.clock
        self._record = Record(bus, LinkKeys, bus.subjects.link_keys, "the keys of links")

    async def ensure(self) -> LinkKeys:
        """Return the record; make it, and the bucket, if they are missing.

        Raises NotPermitted if this user may not make them; Conflict, Unreachable, Full.
        """
        found = await self._record.find()
        return found or await self._record.change(lambda old: old or self._rotated(None, end_links=False))

    async def rotate(self, *, end_links: bool) -> LinkKeys:
        """Sign links with a new secret from now on. `end_links`: no link that was made before is valid any more.

        Raises NotPermitted, Conflict, Unreachable, Full.
        """
        return await self._record.change(lambda old: self._rotated(old, end_links=end_links))

    def _rotated(self, old: LinkKeys | None, *, end_links: bool) -> LinkKeys:
        return rotated(old, self._clock.now(), end_links=end_links)
