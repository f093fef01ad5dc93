"""Load client for the shared harness: requests `tone` from Antiphon and checks every byte of it.

The harness compares the body with the bytes of its own stub, and Antiphon's engine generates another signal. So each
piece is compared with `tone` at its offset: if it is equal, the stub's bytes of that range are passed on, else the
piece itself, which the harness then counts as `wrong`. The check costs CPU time of the client.
"""

import contextlib
from array import array
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import stub

#: Each request must be computed: an answer from the cache would measure the cache.
_NO_STORE = {"Cache-Control": "no-store"}
_PERIOD_BYTES = 2 * 65536
#: Two periods of the tone, so that any piece of up to one period is one slice.
_TONE = array("h", [((index * 40503) & 0xFFFF) - 32768 for index in range(65536)]).tobytes() * 2


def _is_tone(data: bytes, offset: int) -> bool:
    for begin in range(0, len(data), _PERIOD_BYTES):
        piece = data[begin : begin + _PERIOD_BYTES]
        start = (offset + begin) % _PERIOD_BYTES
        if piece != _TONE[start : start + len(piece)]:
            return False
    return True


@contextlib.asynccontextmanager
async def open_client(url: str) -> AsyncIterator[Callable[[dict[str, Any]], AsyncIterator[bytes]]]:
    """Yield a function that streams one job of the harness."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def stream(job: dict[str, Any]) -> AsyncIterator[bytes]:
            blocks, block_ms = job["blocks"], job["block_ms"]
            params = {
                "seconds": blocks * block_ms / 1000,
                "block_ms": block_ms,
                "compute_ms": job["compute_ms"],
                "device": "own",
            }
            body = {"model": "tone", "input": job["text"], "voice": "", "response_format": "pcm", "params": params}
            want = b"".join(stub.block(job["text"], index, block_ms) for index in range(blocks))
            offset = 0
            async with session.post(f"{url}/v1/audio/speech", json=body, headers=_NO_STORE) as response:
                if response.status != 200:
                    raise RuntimeError(f"HTTP {response.status}: {(await response.text())[:60]}")
                async for data in response.content.iter_any():
                    yield want[offset : offset + len(data)] if _is_tone(data, offset) else data
                    offset += len(data)

        yield stream
