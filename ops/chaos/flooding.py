"""A tenant that floods the stack under test, one shared pool at a time."""

import asyncio
from contextlib import suppress
from typing import Final

import aiohttp

from bus.access.keys import Keys, Limits
from bus.errors import BusError
from ops.chaos.live_stack import LiveStack, print_status
from ops.flood.pools import POOLS
from ops.flood.target import Target

TENANT: Final = "flood"
#: Retries of webhooks to receivers that are gone would go on for hours after the run.
_POOLS: Final = tuple(sorted(set(POOLS) - {"webhooks"}))
#: For the jobs of one flood to be cancelled.
_CANCEL_S: Final = 60.0


class Flooder:
    """Floods a stack with requests of `TENANT`, whose key it makes at the first flood."""

    def __init__(self, live: LiveStack) -> None:
        self._live = live
        self._key = ""

    async def flood(self, pick: float, for_s: float) -> None:
        """Flood the pool that `pick`, in [0, 1), chooses, for `for_s` seconds; then cancel the jobs that are left.

        A gateway or nats-server that dies meanwhile ends the flood early. Cancelling leaves the jobs of the flood.
        """
        name = _POOLS[int(pick * len(_POOLS))]
        # A session of its own: the connections of a flood end with it.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(connector=connector) as session:
            url = self._live.stack.urls[int(pick * 1000) % len(self._live.stack.urls)]
            with suppress(TimeoutError, aiohttp.ClientError, OSError, BusError):
                async with asyncio.timeout(for_s):
                    target = Target(session, url, await self._key_of_tenant(), self._live.stack.settings.nats)
                    await POOLS[name](target)
            if not self._key:
                return
            for url in self._live.stack.urls:
                left = await Target(session, url, self._key).cancel_jobs(_CANCEL_S)
                if not left:
                    return
            print_status(f"flood of {name}: {left} jobs could not be cancelled within {_CANCEL_S:g} s")

    async def _key_of_tenant(self) -> str:
        if not self._key:
            self._key = (await Keys(self._live.bus).create(TENANT, Limits()))[1]
        return self._key
