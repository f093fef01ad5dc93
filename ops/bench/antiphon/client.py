"""Load client for the shared harness: asks Antiphon for `tone` and checks every byte of it.

The harness compares the body with its own stub's bytes. Antiphon's engine speaks another signal, so each piece that
comes is compared with what `tone` must say at that place, and the stub's bytes of the same range are handed on only if
it is equal; otherwise the piece itself is, which the harness then counts as `wrong`. The check costs the client.
"""

import contextlib
from array import array
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import stub

#: Each request is to be computed, whatever was asked before.
_NO_STORE = {"Cache-Control": "no-store"}
_PERIOD_BYTES = 2 * 65536
#: One period of the tone, and as much again, so that any piece of up to a period is one slice.
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
