"""REPLIES without a byte of room, seen over HTTP: a job with audio can be cancelled, one without is refused by name."""

import pytest
from aiohttp import ClientSession

from bus.jobs.client import Bus
from bus.jobs.submit import submit
from bus.settings import BusSettings
from tests.support.bus import start, write
from tests.support.full_stream import empty, fill
from tests.support.jobs import tone_job
from tests.support.programs import Fleet


@pytest.fixture
def bus_settings(nats_url: str, root: str) -> BusSettings:
    return BusSettings(nats=nats_url, root=root, jobs_max_bytes=1 << 20, replies_max_bytes=1 << 20)


async def test_delete_answers_in_a_full_stream_and_the_job_is_shown_as_it_ended(
    bus: Bus, fleet: Fleet, http: ClientSession
) -> None:
    _, url = fleet.gateway()
    running, queued = tone_job(), tone_job(lane="batch")
    _, _, by = await start(bus, running)
    await write(by, 3, frames=1000)
    await submit(bus, queued)
    other = await fill(bus)
    async with http.delete(f"{url}/v1/jobs/{queued.id}") as answer:
        assert (answer.status, (await answer.json())["code"]) == (507, "storage_full")
        assert int(answer.headers["Retry-After"]) > 0
    for _ in range(2):
        async with http.delete(f"{url}/v1/jobs/{running.id}") as answer:
            assert (answer.status, (await answer.json())["state"]) == (200, "cancelled")
    async with http.get(f"{url}/v1/jobs/{running.id}") as answer:
        shown = await answer.json()
        assert (answer.status, shown["state"], shown["frames"], shown["seconds"]) == (200, "cancelled", 3000, 0.0)
    async with http.get(f"{url}/v1/jobs") as answer:
        assert [job["state"] for job in (await answer.json())["jobs"]] == ["queued", "cancelled"]
    async with http.get(f"{url}/v1/jobs/{running.id}/blocks/0") as answer:
        assert (answer.status, (await answer.json())["code"]) == (410, "gone")
    await empty(bus, other)
    async with http.delete(f"{url}/v1/jobs/{queued.id}") as answer:
        assert (answer.status, (await answer.json())["state"]) == (200, "cancelled")
