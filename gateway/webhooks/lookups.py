"""Looks up the names of webhook receivers in threads of its own, of which each tenant has a share.

A lookup cannot be cancelled: a name whose server does not answer holds its thread for up to half a minute, longer than
the try that needed it. In the few threads of the event loop it would hold up everything else that looks up names.
"""

import asyncio
import contextlib
import errno
import socket
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.limits.pools import Pool

_NUM_THREADS: Final = 64
#: Whose share the lookups of this task use: aiohttp passes no argument on to its resolver.
OWNER: Final[ContextVar[str]] = ContextVar("owner", default="")


class Lookups(AbstractResolver):
    """Resolves host names, for aiohttp."""

    def __init__(self) -> None:
        self._pool = Pool("webhook_lookups", "threads that look up names", _NUM_THREADS)
        self._threads = ThreadPoolExecutor(_NUM_THREADS, "lookup")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of `host`. Raises OSError if it has none, or if `OWNER` has no thread left."""
        loop, owner = asyncio.get_running_loop(), OWNER.get()
        refusal = self._pool.try_take(owner, 1)
        if refusal is not None:
            raise OSError(errno.EAGAIN, str(self._pool.refused(owner, refusal)))

        def give_back(_: object) -> None:
            """In the thread, at its end."""
            with contextlib.suppress(RuntimeError):  # the loop is closed, and the pool gone with it
                loop.call_soon_threadsafe(self._pool.give_back, owner, 1)

        work = self._threads.submit(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
        work.add_done_callback(give_back)
        return [
            ResolveResult(
                hostname=host, host=str(where[0]), port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST
            )
            for kind, _, _, _, where in await asyncio.wrap_future(work)
        ]

    async def close(self) -> None:
        """Start no lookup any more; those in progress end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)
