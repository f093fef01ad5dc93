"""Who is it: the caller that a request's key or token stands for, at the HTTP doors and at the NATS door alike.

What looks like a key of ours, or like a token where tokens are checked, must count, or the request is refused. Anything
else (clients of other APIs must send some key) counts as no key at all: refused, unless callers without one are served.
"""

import re
from typing import TYPE_CHECKING, Final, Optional

from aiohttp import hdrs, web

from bus.access.keyring import KeyRing
from bus.access.keys import PREFIX, id_of, is_right
from bus.errors import Forbidden, Unauthorized, Unreachable
from gateway.access.addresses import Addresses
from gateway.access.caller import Caller
from gateway.access.origins import Origins, is_loopback, is_upgrade
from gateway.jobs.cache import SHARED_TENANT
from gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from gateway.access.tokens import Tokens

#: What anybody may ask: whether we live, how we fare, and what there is to ask.
OPEN_PATHS: Final = frozenset({"/livez", "/readyz", "/health", "/metrics", "/openapi.json", "/docs", "/"})
_XI_API_KEY: Final = "xi-api-key"
#: WebSockets whose key may come with their first message.
_LATE: Final = re.compile(r"/v1/text-to-speech/[^/]+/stream-input")
#: Requests of ACE-Step's clients whose key may come within the body. Whatever reads it must ask `of_body` who it is.
_IN_BODY: Final = frozenset({"/release_task", "/query_result"})
#: The tenant of who asked there without a key: no job can be of it.
NOBODY: Final = ""
#: Of a WebSocket's address: browsers can give it no headers.
_QUERY: Final = ("api_key", _XI_API_KEY)


def tokens_of(settings: GatewaySettings) -> Optional["Tokens"]:
    """What checks tokens, if there is anything to check them with. Raises SettingsError."""
    if not settings.jwt_secret_file and not settings.jwks_file:
        return None
    from gateway.access.tokens import Tokens  # noqa: PLC0415 - 10 MB and 0.1 s that most gateways do without

    return Tokens(
        secret_file=settings.jwt_secret_file,
        jwks_file=settings.jwks_file,
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
    )


class Identity:
    def __init__(
        self,
        settings: GatewaySettings,
        ring: KeyRing,
        tokens: Optional["Tokens"],
        origins: Origins,
        addresses: Addresses,
    ) -> None:
        self._ring, self._tokens, self._origins, self._addresses = ring, tokens, origins, addresses
        told = settings.anonymous
        #: Whether callers without a key are served, and if so whatever the Host that they name.
        self._anonymous, self._by_any_name = is_loopback(settings.host) if told is None else told, told is True

    def of_request(self, request: web.Request) -> Caller:
        """Raises Unauthorized, Forbidden; Unreachable while the keys have not been read."""
        address = self._addresses.of(request)
        if request.path in OPEN_PATHS:
            return Caller(address=address)
        known = self._known(_shown(request), address)
        if known is not None:
            return known
        if not self._anonymous:
            if _comes_late(request):
                return Caller(tenant=NOBODY, address=address)
            raise Unauthorized("an API key is needed: send it as `Authorization: Bearer KEY` or `xi-api-key: KEY`")
        if not self._by_any_name:
            self._origins.check_host(request)
        self._origins.check_page(request)
        return Caller(address=address)

    def of_message(self, authorization: str, tenant: str | None) -> Caller:
        """Who asks over NATS. `tenant`: whom the account let it speak for by the subject, None if by none.

        Raises Unauthorized, Forbidden; Unreachable while the keys have not been read.
        """
        known = self._known({_bearer(authorization)}, "")
        if tenant == SHARED_TENANT:
            raise _unspeakable()
        if known is None and tenant is None and not self._anonymous:
            raise Unauthorized("an API key is needed: send it as the header `Authorization: Bearer KEY`")
        if known is None:
            return Caller() if tenant is None else Caller(tenant=tenant)
        if tenant not in {None, known.tenant}:
            raise Forbidden(f"the key speaks for {known.tenant!r}, the subject for {tenant!r}")
        return known

    def of_socket(self, request: web.Request, text: str) -> Caller:
        """The caller of a WebSocket whose first message had `text` for a key, or "". Raises as `of_request` does."""
        known = self._known({text}, self._addresses.of(request)) or self.of_request(request)
        if known.tenant == NOBODY:
            raise Unauthorized("an API key is needed: send it as `xi-api-key`, a header or in the first message")
        return known

    def of_body(self, request: web.Request, text: str) -> Caller:
        """The caller of a request whose body had `text` for a key, or "". Raises as `of_request` does."""
        known = self._known(_shown(request) | {text}, self._addresses.of(request)) or self.of_request(request)
        if known.tenant == NOBODY:
            raise Unauthorized("an API key is needed: send it as `Authorization: Bearer KEY` or as `ai_token`")
        return known

    def _known(self, shown: set[str], address: str) -> Caller | None:
        """The caller of what was shown; None if nothing of it is meant for us."""
        ours = {text for text in shown if text.startswith(PREFIX) or (self._tokens and _is_token_like(text))}
        if not ours:
            return None
        if len(ours) > 1:
            raise Unauthorized("two different keys came with one request: send one")
        (text,) = ours
        if self._tokens is not None and not text.startswith(PREFIX):
            known = self._tokens.caller(text, address)
        else:
            known = self._of_our_key(text, address)
        if known.tenant == SHARED_TENANT:
            raise _unspeakable()
        return known

    def _of_our_key(self, text: str, address: str) -> Caller:
        key = self._ring.get(id_of(text) or "")
        if not is_right(key, text) or key is None:
            if not self._ring.is_read:
                raise Unreachable("the API keys have not been read from the bus yet; try again soon")
            raise Unauthorized("the API key does not count here")
        if key.revoked_at is not None:
            raise Unauthorized(f"the API key {key.id} was revoked")
        return Caller(tenant=key.tenant, key=key.id, address=address, limits=key.limits)


def _comes_late(request: web.Request) -> bool:
    """Whether its key may come with what is read later."""
    if is_upgrade(request):
        return _LATE.fullmatch(request.path) is not None
    return request.method == hdrs.METH_POST and request.path in _IN_BODY


def _shown(request: web.Request) -> set[str]:
    """Everything in the request that may be a key."""
    headers = request.headers
    # All of each name: a proxy that reads the last one must not let through what we take the first of.
    shown = {_bearer(text) for text in headers.getall(hdrs.AUTHORIZATION, ())}
    shown |= {text.strip() for text in headers.getall(_XI_API_KEY, ())}
    if is_upgrade(request):
        shown |= {text for name in _QUERY for text in request.query.getall(name, ())}
    return shown


def _unspeakable() -> Forbidden:
    return Forbidden(f"nobody speaks for the tenant {SHARED_TENANT!r}: what is shared by all belongs to none")


def _is_token_like(text: str) -> bool:
    """Whether it has the three parts of a JWT; its signature is another question."""
    return text.count(".") == 2 and text.startswith("ey")


def _bearer(header: str) -> str:
    """The key in an `Authorization` header; one without a scheme is taken as it is, as ACE-Step does."""
    scheme, _, rest = header.strip().partition(" ")
    if not rest:
        return scheme
    return rest.strip() if scheme.lower() == "bearer" else ""
