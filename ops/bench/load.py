"""Runs one scenario against one URL: concurrent clients that compare every byte."""

import asyncio
import itertools
import time
from typing import Any, Final

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from ops.bench import tone

_REQUEST_S: Final = 60.0
#: A client that plays from the first byte on runs dry if data arrives this much later than it is needed.
_DRY_S: Final = 0.1
#: Each request must be computed: an answer from the cache would measure the cache.
_NO_STORE: Final = {"Cache-Control": "no-store"}


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """A load: concurrent clients and the audio that each requests."""

    name: str
    description: str
    #: Clients at the same time.
    clients: int
    requests: int
    blocks: int
    block_ms: int = 100
    compute_ms: int = 0


SCENARIOS: Final = (
    Scenario(name="idle", description="one at a time, one block, no compute", clients=1, requests=200, blocks=1),
    Scenario(name="burst", description="50 at once, 20 blocks, no compute", clients=50, requests=600, blocks=20),
    Scenario(
        name="real", description="32 at once, 50 blocks of 5 ms", clients=32, requests=128, blocks=50, compute_ms=5
    ),
    Scenario(
        name="many",
        description="200 at once, 20 blocks of 100 ms",
        clients=200,
        requests=200,
        blocks=20,
        compute_ms=100,
    ),
)


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one scenario. Times count from the request, in milliseconds."""

    #: Good requests per second.
    rate: float
    first_p50_ms: float
    first_p99_ms: float
    total_p50_ms: float
    #: Share of the good requests that ran dry.
    dry: float
    #: Responses that were not 200 with the right bytes.
    failed: int
    ok: int


class _Download(msgspec.Struct):
    first_s: float = 0.0
    total_s: float = 0.0
    dry: bool = False
    right: bool = False


async def measure(url: str, scenario: Scenario) -> Result:
    """Run `scenario` against `url`. A failure of the server is counted, not raised."""
    numbers = itertools.count()
    downloads: list[_Download] = []
    timeout = ClientTimeout(total=_REQUEST_S)
    async with ClientSession(connector=TCPConnector(limit=0), timeout=timeout) as http:
        began = time.perf_counter()

        async def client() -> None:
            while (number := next(numbers)) < scenario.requests:
                downloads.append(await _download(http, url, scenario, number))

        await asyncio.gather(*(client() for _ in range(scenario.clients)))
        elapsed_s = time.perf_counter() - began
    good = [one for one in downloads if one.right]
    return Result(
        rate=len(good) / elapsed_s,
        first_p50_ms=_quantile([one.first_s for one in good], 0.5),
        first_p99_ms=_quantile([one.first_s for one in good], 0.99),
        total_p50_ms=_quantile([one.total_s for one in good], 0.5),
        dry=sum(one.dry for one in good) / max(1, len(good)),
        failed=len(downloads) - len(good),
        ok=len(good),
    )


async def _download(http: ClientSession, url: str, scenario: Scenario, number: int) -> _Download:
    params: dict[str, Any] = {
        "seconds": scenario.blocks * scenario.block_ms / 1000,
        "block_ms": scenario.block_ms,
        "compute_ms": scenario.compute_ms,
        "device": "own",
    }
    body = {"model": "tone", "input": f"bench {number}", "response_format": "pcm", "params": params}
    want = 2 * tone.RATE_HZ * scenario.blocks * scenario.block_ms // 1000
    found, size, right = _Download(), 0, True
    began = time.perf_counter()
    try:
        async with http.post(f"{url}/v1/audio/speech", json=body, headers=_NO_STORE) as response:
            right = response.status == 200
            async for data in response.content.iter_any():
                now = time.perf_counter() - began
                if not size:
                    found.first_s = now
                elif now - found.first_s > size / (2 * tone.RATE_HZ) + _DRY_S:
                    found.dry = True
                right = right and tone.is_right(data, size)
                size += len(data)
    except (ClientError, TimeoutError):
        right = False
    found.total_s = time.perf_counter() - began
    found.right = right and size == want
    return found


def _quantile(values: list[float], share: float) -> float:
    values = sorted(values)
    return round(1000 * values[min(len(values) - 1, int(share * len(values)))], 2) if values else float("nan")
