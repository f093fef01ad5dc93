"""Signed links: a job's audio or events for a client that can send no header, as `<audio src>` and `EventSource`.

A link says in itself what it opens, for whom, and until when, so every gateway can verify it without a record of it. It
is signed with a secret that all gateways share (`bus.access.link_keys`); only a revoked link has a record.
"""

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from bus.access.keyring import KeyRing
from bus.access.keys import Limits
from bus.access.link_keys import LinkKey, LinkKeys, LinkKeyStore
from bus.access.revoked_links import RevokedLinks
from bus.errors import Forbidden, NotFound, NotPermitted, Unauthorized, Unreachable
from bus.jobs.client import Bus
from bus.subjects import JobKey
from gateway.access.caller import Caller, Grant

Scope = Literal["audio", "events"]
SCOPES: Final[tuple[Scope, ...]] = ("audio", "events")
_PREFIX: Final = "al"
_PURPOSE: Final = b"antiphon link 2"
_INVALID: Final = "the link is not valid here"
_ID_BYTES: Final = 8
#: Keys of callers with a JSON Web Token begin so: no record of a key has that form.
_JWT: Final = "jwt-"


class Links:
    """Makes, verifies and revokes links."""

    def __init__(self, bus: Bus, ring: KeyRing) -> None:
        self._bus = bus
        self._ring = ring
        self._revoked = RevokedLinks(bus)

    async def make(
        self, caller: Caller, key: JobKey, born: int, scopes: Iterable[Scope], ends_at: int
    ) -> tuple[str, str]:
        """The id and the token of a link to a job. `born`: the `queue_seq` of its birth. `ends_at`: Unix seconds.

        Raises NotPermitted if no secret was made yet and this gateway may not; Conflict, Unreachable, Full.
        """
        keys = self._ring.link_keys or await self._first_keys()
        link = secrets.token_hex(_ID_BYTES)
        grant = Grant(link, caller.tenant, caller.key, key.job, born, tuple(scopes), ends_at)
        payload = _encoded(msgspec.json.encode(grant))
        secret = keys.keys[0]
        return grant.id, f"{_PREFIX}.{secret.id}.{payload}.{_signature(secret, payload).decode()}"

    def caller(self, token: str, scope: Scope, job: str, address: str) -> Caller:
        """The caller of a request by a link; `check` has to follow. `scope`, `job`: what is requested.

        Raises Unauthorized for a token that is not valid, or not any more; Forbidden for one of something else;
        Unreachable while the keys have not been read from the bus.
        """
        grant = self._grant(token)
        now_s = self._bus.clock.now()
        if grant.ends_at <= now_s:
            raise Unauthorized(f"the link ended {now_s - grant.ends_at:.0f} s ago")
        if grant.job != job:
            raise Forbidden("the link is for another job")
        if scope not in grant.scopes:
            raise Forbidden(f"the link is for {' and '.join(grant.scopes)}, not for {scope}")
        return Caller(
            tenant=grant.tenant, key=grant.key, address=address, limits=self._limits_of(grant.key), link=grant
        )

    async def check(self, grant: Grant) -> None:
        """Raises Unauthorized for a link that was revoked, or whose job is gone though another has its id.

        Raises Unreachable if that cannot be found out.
        """
        key = self._bus.subjects.job_key(grant.tenant, grant.job)
        is_revoked, found = await asyncio.gather(self._revoked.has(grant.tenant, grant.id), self._bus.logs.birth(key))
        if is_revoked:
            raise Unauthorized("the link was revoked")
        if found is not None and found.birth.queue_seq != grant.born:
            raise Unauthorized("the link is for an earlier job of this id")

    async def revoke(self, key: JobKey, link: str) -> None:
        """End a link of a job before its time, at every gateway at once; idempotent.

        Raises NotFound for text that is no link's id; TooMany, Conflict, Unreachable, Full.
        """
        if len(link) != 2 * _ID_BYTES or set(link) - set("0123456789abcdef"):
            raise NotFound(f"no link {link[:80]!r} of job {key.job!r}")
        await self._revoked.add(key.tenant, link)

    async def _first_keys(self) -> LinkKeys:
        try:
            found = await LinkKeyStore(self._bus).ensure()
        except NotPermitted as error:
            raise NotPermitted(
                f"links have no key yet, and this gateway may not make it ({error}): an operator does, with `antiphon "
                "keys rotate-links`"
            ) from error
        await self._ring.refresh()
        return found

    def _grant(self, token: str) -> Grant:
        """The grant in a token whose signature is right. Raises Unauthorized, Unreachable."""
        prefix, _, rest = token.partition(".")
        secret_id, _, signed = rest.partition(".")
        payload, _, signature = signed.partition(".")
        known = self._ring.link_keys
        secret = None if known is None else known.get(secret_id)
        if secret is None and not self._ring.is_loaded:
            raise Unreachable("the API keys have not been read from the bus yet; try again soon")
        if (
            secret is None
            or prefix != _PREFIX
            or not hmac.compare_digest(_signature(secret, payload), signature.encode(errors="replace"))
        ):
            raise Unauthorized(_INVALID)
        try:
            return msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=Grant)
        except (ValueError, msgspec.DecodeError) as error:  # of another version of ours
            raise Unauthorized(_INVALID) from error

    def _limits_of(self, key_id: str) -> Limits:
        """The limits of the API key that made a link; of a token and of an anonymous caller none.

        Raises Unauthorized if that key was revoked.
        """
        if not key_id or key_id.startswith(_JWT):
            return Limits()
        key = self._ring.get(key_id)
        if key is None or key.revoked_at is not None:
            raise Unauthorized(f"the API key {key_id} that made the link was revoked")
        return key.limits


def _signature(secret: LinkKey, payload: str) -> bytes:
    """HMAC-SHA256 of a payload, by a secret that serves this purpose alone."""
    derived = hmac.digest(secret.secret.encode(), _PURPOSE, hashlib.sha256)
    text = f"{secret.id}.{payload}".encode(errors="backslashreplace")
    return _encoded(hmac.digest(derived, text, hashlib.sha256)).encode()


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
