"""Two gateways, three workers, hundreds of jobs; and two hundred listeners at once."""

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector

from tests.support.programs import Fleet, Program
from tests.support.tone import tone_pcm
from tests.support.web import OWN_RUN, ready, speech, state

pytestmark = pytest.mark.slow


def peak_rss_mb(program: Program) -> float:
    status = Path(f"/proc/{program.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


@pytest.mark.parametrize("ack_wait_s", [5.0])
async def test_five_hundred_mixed_jobs_over_two_gateways_and_three_workers_are_exact_and_shared(
    fleet: Fleet,
) -> None:
    for name in ("w1", "w2", "w3"):
        fleet.worker(name, "tone", 8)
    urls = [fleet.gateway()[1] for _ in range(2)]
    rng = random.Random(7)
    jobs = [
        {"seconds": round(rng.choice([0.2, 0.5, 2.0, 5.0]), 2), "block_ms": rng.choice([20, 50, 100])}
        | {"compute_ms": rng.choice([0, 1, 5]), "device": rng.choice(["own", "shared"])}
        for _ in range(500)
    ]
    made: Counter[str] = Counter()
    todo = iter(enumerate(jobs))
    async with ClientSession(connector=TCPConnector(limit=0)) as http, asyncio.timeout(120):
        for url in urls:
            await ready(http, url)

        async def client(url: str) -> None:
            for number, params in todo:
                lane = rng.choice(["interactive", "standard", "batch"])
                body: dict[str, Any] = speech(text=f"job {number}", lane=lane, **params)
                async with http.post(f"{url}/v1/audio/speech", json=body) as response:
                    assert response.status == 200, await response.text()
                    assert await response.read() == tone_pcm(params["seconds"])
                    worker = (await state(http, url, response.headers["Antiphon-Job"]))["worker"]
                    made[worker] += params["seconds"]

        async with asyncio.TaskGroup() as group:
            for index in range(40):
                group.create_task(client(urls[index % 2]))
    total = sum(made.values())
    assert len(made) == 3
    assert all(share / total >= 0.15 for share in made.values()), made


@pytest.mark.parametrize("ack_wait_s", [5.0])
async def test_two_hundred_streams_at_once_are_exact_in_bounded_memory(fleet: Fleet) -> None:
    workers = [fleet.worker(name, "tone", 128) for name in ("w1", "w2")]
    gateway, url = fleet.gateway()
    want = tone_pcm(5)
    body = speech(seconds=5, block_ms=100, compute_ms=5, device="own")
    async with ClientSession(connector=TCPConnector(limit=0)) as http, asyncio.timeout(120):
        await ready(http, url)

        async def listen() -> None:
            async with http.post(f"{url}/v1/audio/speech", json=body, headers=OWN_RUN) as response:
                assert await response.read() == want

        async with asyncio.TaskGroup() as group:
            for _ in range(200):
                group.create_task(listen())
    assert peak_rss_mb(gateway) < 150
    assert all(peak_rss_mb(worker) < 120 for worker in workers), [peak_rss_mb(worker) for worker in workers]
