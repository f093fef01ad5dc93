"""Requests per second of many keys at several gateways, over some seconds."""

import asyncio
import math
import random
import time

import pytest
from aiohttp import ClientSession

from tests.support.limits import Stack, job, status_of


async def drive(
    stack: Stack, keys: list[dict[str, str]], rates: list[float], window_s: float
) -> tuple[list[float], bool]:
    """Send every gateway as many requests as are allowed in all. Grants per second, by key, and whether every half second
    had more responses than are allowed: otherwise the machine limited the rate, not the gateways.
    """
    start_s = time.monotonic() + 3.0  # until then the bursts are used up
    slots = int(2 * window_s)
    granted, answered = [[0] * slots for _ in keys], [0] * slots

    def now() -> int:
        return math.floor(2 * (time.monotonic() - start_s))

    async def send(index: int, url: str, http: ClientSession) -> None:
        rng = random.Random(index)
        while now() < slots:
            status = await status_of(http.post(f"{url}/v1/jobs", json=job(), headers=keys[index]))
            assert status in {202, 429}
            if 0 <= (slot := now()) < slots:
                answered[slot] += 1
                granted[index][slot] += status == 202
            await asyncio.sleep(rng.uniform(0.5, 1.5) / rates[index])

    async with ClientSession() as http, asyncio.TaskGroup() as tasks:
        for index in range(len(keys)):
            for url in stack.urls:
                tasks.create_task(send(index, url, http))
    return [sum(times) / window_s for times in granted], min(answered) > sum(rates) / 2


@pytest.mark.slow
async def test_ten_keys_at_three_gateways_get_their_rates_within_ten_percent(stack: Stack) -> None:
    # A burst of half a second: little in the window, and no short pause of a busy machine is lost.
    rates = [6.0 + index for index in range(10)]
    keys = [await stack.key(requests_per_s=rate, burst=int(rate / 2)) for rate in rates]
    for _ in range(8):  # every half second of a window must be one of enough requests
        observed, is_limited = await drive(stack, keys, rates, 10.0)
        shares = [seen / rate for seen, rate in zip(observed, rates, strict=True)]
        print("\nobserved/set:", " ".join(f"{r:g}/s {s:.3f}" for r, s in zip(rates, shares, strict=True)), is_limited)
        assert max(shares) < 1.1
        if is_limited:
            break
    assert is_limited, "this machine is too busy to send more than is allowed"
    assert shares == pytest.approx([1.0] * 10, abs=0.1)
