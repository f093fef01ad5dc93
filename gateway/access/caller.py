"""The caller: the tenant for which a request acts, and the limits that apply to it."""

from typing import Final

import msgspec
from aiohttp import web

from bus.access.keys import Limits
from gateway.access.addresses import site_of

#: The tenant of requests without a key, where those are served.
PUBLIC: Final = "public"
#: The tenant that owns the jobs of a cache shared by all tenants. No key and no subject may act for it.
SHARED_TENANT: Final = "_shared"


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """All that a link opens, and for whom."""

    #: Of the link.
    id: str
    tenant: str
    #: Key of the caller that made the link, as in `Caller`.
    key: str
    job: str
    #: Sequence of the job in the queue: a later job of the same id has another one.
    born: int
    scopes: tuple[str, ...]
    #: Unix seconds by the clock of the bus.
    ends_at: int


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """An authenticated request's tenant, key and limits."""

    tenant: str = PUBLIC
    #: The key's id, or one derived from a token's tenant and subject; "" for an anonymous caller.
    key: str = ""
    #: The client's address as `Addresses` finds it; "" over NATS and on a Unix socket.
    address: str = ""
    #: Id of the worker that the caller prefers, or "".
    preferred_worker: str = ""
    #: The key's limits; a token and an anonymous caller have none.
    limits: Limits = Limits()
    #: The link that stands for a key; None: the caller has one, or needs none.
    link: Grant | None = None

    @property
    def owner(self) -> str:
        """Whose share of this process's pools it uses: the tenant's, or the address's of an anonymous caller."""
        if self.key or self.tenant != PUBLIC or not self.address:
            return f"tenant-{self.tenant}"
        return f"address-{site_of(self.address)}"


#: `request[CALLER]`: set before any handler runs.
CALLER: Final = web.RequestKey("caller", Caller)


def caller(request: web.Request) -> Caller:
    """The caller of an HTTP request. Raises KeyError before it is authenticated."""
    return request[CALLER]
