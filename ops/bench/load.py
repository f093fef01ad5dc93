"""One scenario against one URL: so many listeners at once, every byte compared."""

import asyncio
import itertools
import time
from typing import Any, Final

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from ops.bench import tone

_REQUEST_S: Final = 60.0
#: A listener who plays from the first byte is dry if data comes this much later than it was needed.
_DRY_S: Final = 0.1
#: Each request is to be computed, whatever was asked before.
_NO_STORE: Final = {"Cache-Control": "no-store"}


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    what: str
    listeners: int
    requests: int
    blocks: int
    block_ms: int = 100
    compute_ms: int = 0


SCENARIOS: Final = (
    Scenario(name="idle", what="one at a time, one block, no compute", listeners=1, requests=200, blocks=1),
    Scenario(name="burst", what="50 at once, 20 blocks, no compute", listeners=50, requests=600, blocks=20),
    Scenario(name="real", what="32 at once, 50 blocks of 5 ms", listeners=32, requests=128, blocks=50, compute_ms=5),
    Scenario(
        name="many", what="200 at once, 20 blocks of 100 ms", listeners=200, requests=200, blocks=20, compute_ms=100
    ),
)


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds; `failed` counts whatever was not 200 with the right bytes."""

    rate: float
    first_p50_ms: float
    first_p99_ms: float
    total_p50_ms: float
    dry: float
    failed: int
    ok: int


class _Heard(msgspec.Struct):
    first_s: float = 0.0
    total_s: float = 0.0
    dry: bool = False
    right: bool = False


async def measure(url: str, scenario: Scenario) -> Result:
    """Run `scenario` against `url`. Raises nothing a server can cause: a failure is counted."""
    numbers = itertools.count()
    heard: list[_Heard] = []
    timeout = ClientTimeout(total=_REQUEST_S)
    async with ClientSession(connector=TCPConnector(limit=0), timeout=timeout) as http:
        began = time.perf_counter()

        async def listener() -> None:
            while (number := next(numbers)) < scenario.requests:
                heard.append(await _listen(http, url, scenario, number))

        await asyncio.gather(*(listener() for _ in range(scenario.listeners)))
        elapsed_s = time.perf_counter() - began
    good = [one for one in heard if one.right]
    return Result(
        rate=len(good) / elapsed_s,
        first_p50_ms=_quantile([one.first_s for one in good], 0.5),
        first_p99_ms=_quantile([one.first_s for one in good], 0.99),
        total_p50_ms=_quantile([one.total_s for one in good], 0.5),
        dry=sum(one.dry for one in good) / max(1, len(good)),
        failed=len(heard) - len(good),
        ok=len(good),
    )


async def _listen(http: ClientSession, url: str, scenario: Scenario, number: int) -> _Heard:
    params: dict[str, Any] = {
        "seconds": scenario.blocks * scenario.block_ms / 1000,
        "block_ms": scenario.block_ms,
        "compute_ms": scenario.compute_ms,
        "device": "own",
    }
    body = {"model": "tone", "input": f"bench {number}", "response_format": "pcm", "params": params}
    want = 2 * tone.RATE_HZ * scenario.blocks * scenario.block_ms // 1000
    heard, size, right = _Heard(), 0, True
    began = time.perf_counter()
    try:
        async with http.post(f"{url}/v1/audio/speech", json=body, headers=_NO_STORE) as response:
            right = response.status == 200
            async for data in response.content.iter_any():
                now = time.perf_counter() - began
                if not size:
                    heard.first_s = now
                elif now - heard.first_s > size / (2 * tone.RATE_HZ) + _DRY_S:
                    heard.dry = True
                right = right and tone.is_right(data, size)
                size += len(data)
    except (ClientError, TimeoutError):
        right = False
    heard.total_s = time.perf_counter() - began
    heard.right = right and size == want
    return heard


def _quantile(values: list[float], share: float) -> float:
    values = sorted(values)
    return round(1000 * values[min(len(values) - 1, int(share * len(values)))], 2) if values else float("nan")
