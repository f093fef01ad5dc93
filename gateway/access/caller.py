"""Who asks: for whom a request speaks, and what it may use."""

from typing import Final

import msgspec
from aiohttp import web

from bus.access.keys import Limits

#: Whom a request without a key speaks for, where that is allowed.
PUBLIC: Final = "public"


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    tenant: str = PUBLIC
    #: The key's id; "" for an anonymous caller.
    key: str = ""
    #: Of the peer, "" where there is none.
    address: str = ""
    #: A worker's id that the caller would like best, or "".
    preferred_worker: str = ""
    limits: Limits = Limits()


#: `request[CALLER]`: set before any handler runs.
CALLER: Final = web.RequestKey("caller", Caller)


def caller(request: web.Request) -> Caller:
    return request[CALLER]
