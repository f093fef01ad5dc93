"""API keys: their form, their stored record, and how an operator creates, lists, limits and revokes them.

A key is `ak-<id>-<secret>`. The bucket `<ROOT>_KEYS` holds a `Key` under each id, with the SHA-256 of the key only:
the secret has 256 random bits, so one fast hash cannot be reversed.
"""

import base64
import hashlib
import hmac
import re
import secrets
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from bus import wire
from bus.errors import ApiError, Conflict, Invalid, Malformed, NotFound
from bus.jobs.client import Bus
from bus.subjects import LINKS_ENTRY, MARKINGS_ENTRY, last_token, token
from bus.telemetry.logging import logger
from bus.transport.bucket import entries
from bus.transport.direct import Stored
from bus.transport.jetstream import EXPECT_LAST, WRONG_LAST_SEQUENCE, is_missing_stream

log = logger(__name__)

PREFIX: Final = "ak-"
_FORM: Final = re.compile(r"ak-(?P<id>[0-9a-f]{12})-[A-Za-z0-9_-]{43}")
_ID_BYTES: Final = 6
_SECRET_BYTES: Final = 32
#: Compared with if there is no such key, so that the response takes as long.
_NO_HASH: Final = hashlib.sha256(b"").hexdigest()
#: Tries of one change before it gives up because of concurrent changes.
_TRIES: Final = 10

_Rate = Annotated[float, Meta(gt=0, le=1e6)]
_Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Limits of a key. None: no limit."""

    requests_per_s: _Rate | None = None
    #: Requests that may come at once; None: as many as in one second.
    burst: _Count | None = None
    #: Jobs that are accepted and not ended.
    concurrent_jobs: _Count | None = None
    #: Seconds of audio generated in one day, UTC.
    audio_s_per_day: Annotated[float, Meta(gt=0, le=1e12)] | None = None

    @property
    def count_jobs(self) -> bool:
        """Whether the key's jobs must be counted one by one."""
        return self.concurrent_jobs is not None or self.audio_s_per_day is not None


class Key(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The stored record of a key. It is never removed, so that no id is reused by another tenant."""

    id: str
    tenant: str
    #: SHA-256 of the whole key, in hexadecimal.
    hash: str
    created_at: datetime
    #: None: the key is valid.
    revoked_at: datetime | None = None
    limits: Limits = Limits()


def make(tenant: str, limits: Limits, now_s: float) -> tuple[Key, str]:
    """Return the record of a new key, and the key itself, which is stored nowhere.

    `now_s`: Unix seconds. Raises ValueError if `tenant` is not a subject token.
    """
    key_id = secrets.token_hex(_ID_BYTES)
    secret = base64.urlsafe_b64encode(secrets.token_bytes(_SECRET_BYTES)).rstrip(b"=").decode()
    text = f"{PREFIX}{key_id}-{secret}"
    key = Key(id=key_id, tenant=token(tenant), hash=hash_of(text), created_at=_when(now_s), limits=limits)
    return key, text


def id_of(text: str) -> str | None:
    """Return the id in a text of the form of a key, otherwise None."""
    match = _FORM.fullmatch(text)
    return match["id"] if match else None


def hash_of(text: str) -> str:
    """Return the SHA-256 of a key, in hexadecimal. Accepts any text: a header may hold bytes that are not UTF-8."""
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()


def matches(key: Key | None, text: str) -> bool:
    """Whether `text` is the key of this record. Takes as long if there is no record."""
    return hmac.compare_digest(_NO_HASH if key is None else key.hash, hash_of(text)) and key is not None


def read(stored: Stored) -> Key | None:
    """Return the record in an entry of the bucket; None if it was deleted by hand or is malformed, which is logged."""
    if stored.message.header("KV-Operation") is not None:
        return None
    key_id = last_token(stored.message.subject)
    try:
        key = wire.decode(Key, stored.message.data)
        if key.id != key_id:
            raise Malformed(f"the record has the id {key.id!r}")
        token(key.tenant)
    except (Malformed, ValueError) as error:
        log.warning("keys.entry_invalid", key=key_id, error=str(error))
        return None
    return key


class Keys:
    """Changes of the bucket by an operator. The connection must be allowed to write it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def create(self, tenant: str, limits: Limits) -> tuple[Key, str]:
        """Create a key and return its record and the key, which cannot be read again. Creates the bucket if needed.

        Raises Invalid if `tenant` is not a subject token; Unreachable, Full, TopologyMismatch.
        """
        try:
            key, text = make(tenant, limits, self._bus.clock.now())
        except ValueError as error:
            raise Invalid(f"tenant: {error}", "tenant") from error
        await self._bus.topology.declare_bucket("keys")
        if not await self._put(key, 0) and await self.find(key.id) != key:
            raise Conflict(f"key {key.id!r} exists already; create another one")
        return key, text

    async def all(self) -> list[Key]:
        """Return every key, revoked ones too, oldest first; none if there is no bucket. Raises Unreachable."""
        bus = self._bus
        found: list[Key] = []
        async for stored in entries(bus.js, bus.subjects.keys_stream, bus.subjects.all_keys):
            is_key = last_token(stored.message.subject) not in {LINKS_ENTRY, MARKINGS_ENTRY}
            if is_key and (key := read(stored)) is not None:
                found.append(key)
        return sorted(found, key=lambda key: (key.created_at, key.id))

    async def limit(self, key_id: str, limits: Limits) -> Key:
        """Replace the limits of a key. Raises NotFound, Conflict, Unreachable."""
        for _ in range(_TRIES):
            key, seq = await self._find(key_id)
            changed = msgspec.structs.replace(key, limits=limits)
            if await self._put(changed, seq):
                return changed
        raise Conflict(f"key {key_id!r} was changed by other processes {_TRIES} times meanwhile")

    async def revoke(self, key_id: str) -> Key:
        """Revoke a key; idempotent. Raises NotFound, Conflict, Unreachable."""
        for _ in range(_TRIES):
            key, seq = await self._find(key_id)
            if key.revoked_at is not None:
                return key
            changed = msgspec.structs.replace(key, revoked_at=_when(self._bus.clock.now()))
            if await self._put(changed, seq):
                return changed
        raise Conflict(f"key {key_id!r} was changed by other processes {_TRIES} times meanwhile")

    async def find(self, key_id: str) -> Key:
        """Return the record of a key. Raises NotFound, Unreachable."""
        return (await self._find(key_id))[0]

    async def _find(self, key_id: str) -> tuple[Key, int]:
        try:
            stored = await self._bus.js.last(self._bus.subjects.keys_stream, self._bus.subjects.key(key_id))
        except ValueError:
            stored = None  # not a token, so not the id of a key
        except ApiError as error:
            if not is_missing_stream(error):
                raise
            stored = None
        key = None if stored is None else read(stored)
        if stored is None or key is None:
            raise NotFound(f"no key {key_id[:80]!r}")
        return key, stored.seq

    async def _put(self, key: Key, expected_seq: int) -> bool:
        """Store the record if its last sequence is `expected_seq`.

        Returns False if another one is stored meanwhile; that may be our own, if its acknowledgement was lost.
        """
        try:
            headers = {EXPECT_LAST: str(expected_seq)}
            await self._bus.js.publish(self._bus.subjects.key(key.id), wire.encode(key), headers)
        except ApiError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise
            return False
        return True


def _when(now_s: float) -> datetime:
    return datetime.fromtimestamp(round(now_s, 3), UTC)
