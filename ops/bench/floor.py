"""The floor of the benchmark: bare aiohttp that generates the same audio in its handler, without bus or worker.

`python -m ops.bench.floor` prints its port and serves until it is killed.
"""

import asyncio
import json
import sys

import uvloop
from aiohttp import web

from ops.bench import tone

_BACKLOG = 2048


async def speech(request: web.Request) -> web.StreamResponse:
    """Stream `tone` with the pace of the request's params."""
    params = json.loads(await request.read())["params"]
    block_bytes = 2 * tone.RATE_HZ * params["block_ms"] // 1000
    response = web.StreamResponse(headers={"Content-Type": "audio/pcm"})
    await response.prepare(request)
    for index in range(round(params["seconds"] * 1000 / params["block_ms"])):
        await asyncio.sleep(params["compute_ms"] / 1000)
        await response.write(tone.pcm(index * block_bytes, block_bytes))
    await response.write_eof()
    return response


async def serve() -> None:
    """Serve on a free port until cancelled; the port is the first line on stdout."""
    app = web.Application()
    app.router.add_post("/v1/audio/speech", speech)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=_BACKLOG).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve())
