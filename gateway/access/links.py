"""Signed links: a job's audio or events for a client that can send no header, as `<audio src>` and `EventSource`.

A link names one job, its scopes and its end. It is signed with a secret that is derived from the record of the API key
that made it, which only gateways and operators can read. So it needs no record of its own, every gateway can verify it,
and revoking the key revokes it.
"""

import base64
import hashlib
import hmac
import time
from typing import Final, Literal

import msgspec

from bus.access.keyring import KeyRing
from bus.access.keys import Key
from bus.errors import Forbidden, Unauthorized, Unreachable
from gateway.access.caller import PUBLIC, Caller

Scope = Literal["audio", "events"]
SCOPES: Final[tuple[Scope, ...]] = ("audio", "events")
_PREFIX: Final = "al"
_PURPOSE: Final = b"antiphon link 1"
_INVALID: Final = "the link is not valid here"


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """All that a link opens."""

    job: str
    scopes: tuple[Scope, ...]
    #: Unix seconds.
    ends_at: int


class Links:
    """Signs and verifies links. A revoked key's links are refused at their next use."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def token(self, caller: Caller, grant: Grant) -> str:
        """The token of a link; "" for an anonymous caller, who needs none. Raises Forbidden for a JSON Web Token's."""
        if not caller.key and caller.tenant == PUBLIC:
            return ""
        key = self._ring.get(caller.key)
        if key is None:
            raise Forbidden("links are signed with an API key, so a JSON Web Token makes none")
        payload = _encoded(msgspec.json.encode(grant))
        return f"{_PREFIX}.{key.id}.{payload}.{_signature(key, payload).decode()}"

    def caller(self, token: str, scope: Scope, job: str, address: str) -> Caller:
        """The caller of a request by a link. `scope`, `job`: what is requested.

        Raises Unauthorized for a token that is not valid, or not any more; Forbidden for one of something else;
        Unreachable while the keys have not been read from the bus.
        """
        prefix, _, rest = token.partition(".")
        key_id, _, signed = rest.partition(".")
        payload, _, signature = signed.partition(".")
        key = self._ring.get(key_id)
        if key is None and not self._ring.is_loaded:
            raise Unreachable("the API keys have not been read from the bus yet; try again soon")
        if (
            key is None
            or prefix != _PREFIX
            or not hmac.compare_digest(_signature(key, payload), signature.encode(errors="replace"))
        ):
            raise Unauthorized(_INVALID)
        if key.revoked_at is not None:
            raise Unauthorized(f"the API key {key.id} that made the link was revoked")
        grant = _grant(payload)
        if grant.ends_at <= time.time():
            raise Unauthorized(f"the link ended {time.time() - grant.ends_at:.0f} s ago")
        if grant.job != job:
            raise Forbidden("the link is for another job")
        if scope not in grant.scopes:
            raise Forbidden(f"the link is for {' and '.join(grant.scopes)}, not for {scope}")
        return Caller(tenant=key.tenant, key=key.id, address=address, limits=key.limits)


def _signature(key: Key, payload: str) -> bytes:
    secret = hmac.digest(key.hash.encode(), _PURPOSE, hashlib.sha256)
    text = f"{key.id}.{payload}".encode(errors="backslashreplace")
    return _encoded(hmac.digest(secret, text, hashlib.sha256)).encode()


def _grant(payload: str) -> Grant:
    """The grant in a payload whose signature is right. Raises Unauthorized for one of another version of ours."""
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=Grant)
    except (ValueError, msgspec.DecodeError) as error:
        raise Unauthorized(_INVALID) from error


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
