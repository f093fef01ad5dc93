"""Ten thousand malformed inputs at every door: nothing dies, nothing is left behind, and nothing is an error of ours."""

import asyncio

import pytest
from aiohttp import ClientSession

from bus.jobs.client import Bus
from gateway.dialects.registry import dialects
from tests.support.fuzz import Fuzz, descriptors
from tests.support.programs import Fleet
from tests.support.tone import tone_pcm
from tests.support.waiting import eventually
from tests.support.web import ready, speech

SEED = 20261121
CASES = 10_000
NATIVE = (
    *(
        ("POST", "/v1/jobs"),
        ("GET", "/v1/jobs"),
        ("PUT", "/v1/jobs/{id}"),
        ("GET", "/v1/jobs/{id}"),
        ("DELETE", "/v1/jobs/{id}"),
    ),
    *(("GET", f"/v1/jobs/{{id}}/{what}") for what in ("events", "audio", "blocks/{n}", "marks")),
    *(
        ("GET", path)
        for path in (
            "/v1/models",
            "/v1/voices",
            "/v1/fleet",
            "/livez",
            "/readyz",
            "/health",
            "/metrics",
            "/openapi.json",
        )
    ),
    ("POST", "/v1/jobs:batch"),
)


@pytest.mark.slow
async def test_ten_thousand_malformed_inputs_kill_nothing_and_leak_nothing(
    fleet: Fleet, bus: Bus, http: ClientSession
) -> None:
    gateway, url = fleet.gateway()
    worker = fleet.worker("w1")
    await ready(http, url)
    routes = [
        (route.method, route.path) for dialect in dialects() for route in dialect.routes if hasattr(route, "method")
    ]
    sockets = [path for _, path in routes if path.endswith(("speech/stream", "stream-input"))]
    assert len(sockets) == 4
    fuzz = Fuzz(SEED, url, bus.settings.nats, bus.settings.root, [*NATIVE, *routes], sockets)
    await fuzz.run(200)  # what is made on first use is there before we count
    await _at_rest(http, url)
    before = (descriptors(gateway.pid), descriptors(worker.pid))

    await fuzz.run(CASES)

    await _at_rest(http, url)
    print(f"\n{CASES} malformed inputs, seed {SEED}: {dict(sorted(fuzz.answers.items()))}")
    assert (gateway.process.poll(), worker.process.poll()) == (None, None)
    assert gateway.events("http.failed") + gateway.events("submit.failed") == []
    assert not [
        status for status in fuzz.answers if status.startswith("5") and status not in {"503", "501", "502", "504"}
    ]
    for program, then in zip((gateway, worker), before, strict=True):
        await eventually(lambda pid=program.pid, then=then: descriptors(pid) <= then + 3)
    async with http.post(f"{url}/v1/audio/speech", json=speech(seconds=0.5)) as answer:
        assert await answer.read() == tone_pcm(0.5)


async def _at_rest(http: ClientSession, url: str) -> None:
    """Until no request is in progress and no worker holds a job."""

    async def quiet() -> bool:
        async with http.get(f"{url}/health") as answer:
            busy = (await answer.json())["requests"]
        async with http.get(f"{url}/v1/fleet") as answer:
            workers = (await answer.json())["workers"]
        return busy <= 1 and sum(each["in_flight"] for each in workers if each["id"] == "w1") == 0

    async with asyncio.timeout(60):
        while not await quiet():
            await asyncio.sleep(0.1)
