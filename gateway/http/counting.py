"""Counts what a request makes against its caller's requests per second, beyond the one that the request itself is."""

import asyncio

from aiohttp import web

from bus.errors import TooMany
from gateway.access.caller import CALLER
from gateway.http.responses import GRANTED
from gateway.http.services import LIMITER
from gateway.limits.refusals import REQUESTS


def count_request(request: web.Request) -> None:
    """Count a request that is free unless it makes work, and now does. Raises TooMany."""
    granted = request.app[LIMITER].requests.grant(request[CALLER])
    if granted is not None:
        request[GRANTED] = granted


def count_one_more(request: web.Request) -> float:
    """Count one more job of a request; 0, or, if a limit is reached, the seconds to wait before the next try."""
    try:
        request.app[LIMITER].requests.grant(request[CALLER])
    except TooMany as error:
        if error.limit != REQUESTS:
            raise
        return max(error.retry_after_s, 0.001)
    return 0.0


async def wait_to_count(request: web.Request) -> None:
    """Count one more job of a request, once the limit permits it. Cancelling counts nothing."""
    wait_s = count_one_more(request)
    while wait_s:
        await asyncio.sleep(wait_s)
        wait_s = count_one_more(request)
