"""Authenticates HTTP and NATS requests: API key or JSON Web Token to `Caller`.

A credential that has the form of one of our keys, or of a token where tokens are checked, must be valid or the request
is refused. Any other credential is ignored (clients of foreign APIs must send some key): the request is then anonymous,
and refused unless the gateway serves anonymous callers.
"""

from typing import TYPE_CHECKING, Final, Literal, Optional

from aiohttp import hdrs, web

from bus.access.keyring import KeyRing
from bus.access.keys import PREFIX, id_of, matches
from bus.errors import Forbidden, Unauthorized, Unreachable
from gateway.access.addresses import Addresses
from gateway.access.caller import SHARED_TENANT, Caller
from gateway.access.links import Links, Scope
from gateway.access.origins import Origins, is_loopback, is_upgrade

if TYPE_CHECKING:
    from gateway.access.tokens import TokenVerifier

#: Where a request's key may be: in its head only, or also in the first message of a WebSocket or in the body. The
#: handlers of the latter call `authenticate_socket` or `authenticate_body` before they act for the caller. Or a signed
#: link with this scope may stand for the key.
KeyPlace = Literal["head", "message", "body", "audio_link", "events_link"]
_SCOPES: Final[dict[KeyPlace, Scope]] = {"audio_link": "audio", "events_link": "events"}
#: The query parameter with the token of a link.
LINK_PARAMETER: Final = "token"
_XI_API_KEY: Final = "xi-api-key"
#: The tenant of a request whose key is still to be read. No job has it: it is no subject token.
NO_TENANT: Final = ""
#: Query parameters of a WebSocket that may hold its key: browsers cannot set headers on one.
_QUERY: Final = ("api_key", _XI_API_KEY)


def open_token_verifier(
    *, secret_file: str = "", jwks_file: str = "", audience: str = "", issuer: str = ""
) -> Optional["TokenVerifier"]:
    """The verifier of tokens by these files; None without any. Raises SettingsError."""
    if not secret_file and not jwks_file:
        return None
    from gateway.access.tokens import TokenVerifier  # noqa: PLC0415 - 10 MB and 0.1 s that most gateways do without

    return TokenVerifier(secret_file=secret_file, jwks_file=jwks_file, audience=audience, issuer=issuer)


class Authenticator:
    """Finds the caller of each request. Keeps no state of its own: a revoked key is refused at its next use."""

    def __init__(
        self,
        ring: KeyRing,
        links: Links,
        tokens: Optional["TokenVerifier"],
        origins: Origins,
        addresses: Addresses,
        *,
        host: str,
        anonymous: bool | None,
    ) -> None:
        """`host`: the address that the gateway listens on.

        `anonymous`: whether callers without a key are served; None: only if `host` is a loopback address, and then
        only under a name of this machine.
        """
        self._ring = ring
        self.links = links
        self._tokens = tokens
        self._origins = origins
        self._addresses = addresses
        self._serves_anonymous = is_loopback(host) if anonymous is None else anonymous
        self._checks_host = anonymous is not True

    def authenticate(self, request: web.Request, key_in: KeyPlace = "head", *, is_open: bool = False) -> Caller:
        """The caller of an HTTP request; one of `NO_TENANT` if its key may still come, from where `key_in` says.

        If the caller has a `link`, `links.check` has to follow.

        `is_open`: serve every caller, and read no key. Raises Unauthorized, Forbidden; Unreachable while the keys have
        not been read from the bus.
        """
        address = self._addresses.of(request) if self._addresses.trusts_proxies else request.remote or ""
        if is_open:
            return Caller(address=address)
        known = self._caller_of(_credentials(request), address)
        if known is not None:
            return known
        if key_in in _SCOPES and (token := request.query.get(LINK_PARAMETER)):
            return self.links.caller(token, _SCOPES[key_in], request.match_info["id"], address)
        if not self._serves_anonymous and (key_in == "body" or (key_in == "message" and is_upgrade(request))):
            return Caller(tenant=NO_TENANT, address=address)
        return self._anonymous(request, address, "`Authorization: Bearer KEY` or `xi-api-key: KEY`")

    def authenticate_message(self, authorization: str, tenant: str | None) -> Caller:
        """The caller of a NATS request with the header `authorization`, or "".

        `tenant`: the tenant in the subject, for which the NATS account permitted it to publish; None without one.
        Raises Unauthorized, Forbidden; Unreachable while the keys have not been read from the bus.
        """
        known = self._caller_of({_bearer(authorization)}, "")
        if tenant == SHARED_TENANT:
            raise _reserved()
        if known is None and tenant is None and not self._serves_anonymous:
            raise Unauthorized("an API key is needed: send it as the header `Authorization: Bearer KEY`")
        if known is None:
            return Caller() if tenant is None else Caller(tenant=tenant)
        if tenant not in {None, known.tenant}:
            raise Forbidden(f"the key is of the tenant {known.tenant!r}, the subject of {tenant!r}")
        return known

    def authenticate_socket(self, request: web.Request, text: str, places: str) -> Caller:
        """The caller of a WebSocket whose first message held `text` as its key, or "".

        `places`: where this API takes keys, for the refusal of a request without one. Raises as `authenticate`.
        """
        address = self._addresses.of(request)
        known = self._caller_of({text}, address) or self._caller_of(_credentials(request), address)
        return known or self._anonymous(request, address, places)

    def authenticate_body(self, request: web.Request, text: str, places: str) -> Caller:
        """The caller of a request whose body held `text` as its key, or "".

        `places`: where this API takes keys, for the refusal of a request without one. Raises as `authenticate`.
        """
        address = self._addresses.of(request)
        known = self._caller_of(_credentials(request) | {text}, address)
        return known or self._anonymous(request, address, places)

    def _anonymous(self, request: web.Request, address: str, places: str) -> Caller:
        """The caller of a request without a key. Raises Unauthorized that names the `places` for one, Forbidden."""
        if not self._serves_anonymous:
            raise Unauthorized(f"an API key is needed: send it as {places}")
        if self._checks_host:
            self._origins.check_host(request)
        self._origins.check_page(request)
        return Caller(address=address)

    def _caller_of(self, credentials: set[str], address: str) -> Caller | None:
        """The caller that the credentials prove; None if none of them has the form of a key or token of ours."""
        ours = {text for text in credentials if text.startswith(PREFIX) or (self._tokens and _is_token_like(text))}
        if not ours:
            return None
        if len(ours) > 1:
            raise Unauthorized("two different keys came with one request: send one")
        (text,) = ours
        if self._tokens is not None and not text.startswith(PREFIX):
            known = self._tokens.caller(text, address)
        else:
            known = self._caller_of_key(text, address)
        if known.tenant == SHARED_TENANT:
            raise _reserved()
        return known

    def _caller_of_key(self, text: str, address: str) -> Caller:
        key = self._ring.get(id_of(text) or "")
        if not matches(key, text) or key is None:
            if not self._ring.is_loaded:
                raise Unreachable("the API keys have not been read from the bus yet; try again soon")
            raise Unauthorized("the API key is not valid here")
        if key.revoked_at is not None:
            raise Unauthorized(f"the API key {key.id} was revoked")
        return Caller(tenant=key.tenant, key=key.id, address=address, limits=key.limits)


def _credentials(request: web.Request) -> set[str]:
    """Everything in the request's head that may be a key or token."""
    headers = request.headers
    # All of each name: if a proxy checks the last one, a different first one must not pass behind its back.
    found = {_bearer(text) for text in headers.getall(hdrs.AUTHORIZATION, ())}
    found |= {text.strip() for text in headers.getall(_XI_API_KEY, ())}
    if is_upgrade(request):
        found |= {text for name in _QUERY for text in request.query.getall(name, ())}
    return found


def _reserved() -> Forbidden:
    return Forbidden(
        f"the tenant {SHARED_TENANT!r} is reserved for results that all tenants share: no caller acts for it"
    )


def _is_token_like(text: str) -> bool:
    """Whether the text has the three parts of a JWT. The signature is not checked here."""
    return text.count(".") == 2 and text.startswith("ey")


def _bearer(header: str) -> str:
    """The key in an `Authorization` header; one without a scheme is taken as it is, as ACE-Step does."""
    scheme, _, rest = header.strip().partition(" ")
    if not rest:
        return scheme
    return rest.strip() if scheme.lower() == "bearer" else ""
