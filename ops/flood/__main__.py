"""`python -m ops.flood POOL`: flood one pool of a stack until SIGTERM; then print the counts of the answers as JSON.

`ANTIPHON_URL`, `ANTIPHON_NATS` and `ANTIPHON_API_KEY` name the gateway, its NATS server and the tenant. A process of
its own, so that the flood's client does not slow down the client that is measured.
"""

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress

import aiohttp

from ops.flood.pools import POOLS
from ops.flood.target import Target


async def main(name: str) -> None:
    """Flood the pool `name`. Cancelling stops it; then the counts are printed."""
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        target = Target(
            session, os.environ["ANTIPHON_URL"], os.environ["ANTIPHON_API_KEY"], os.environ["ANTIPHON_NATS"]
        )
        flood = asyncio.create_task(POOLS[name](target))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, flood.cancel)
        print("flooding", flush=True)
        with suppress(asyncio.CancelledError):
            await flood
        print(json.dumps(dict(target.tally.answers.most_common())), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
