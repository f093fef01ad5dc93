"""The APIs and their routes: lists of models, the names that clients of each send, and NATS."""

import asyncio
from typing import Any

import aiohttp
import msgspec
import nats
import pytest

from bus.jobs.client import Bus
from bus.lifetime import background_tasks
from bus.settings import BusSettings
from tests.support.doors import nats_api
from tests.support.routes import applied, stack, targets


async def test_lists_of_models_have_the_names_of_routes(bus: Bus, bus_settings: BusSettings) -> None:
    async with stack(bus, bus_settings, "v1", "v2", num_gateways=1) as found:
        http = found.gateways[0].http
        await found.store.set("song", targets(v1=5, v2=95))
        await found.store.set("lost", targets("opera", v1=1))
        await applied(found, "lost")

        async def listed(path: str, **headers: str) -> Any:
            async with http.get(
                path, headers={name.replace("_", "-"): value for name, value in headers.items()}
            ) as got:
                return await got.json()

        song, plain = (await listed("/v1/models"))["data"]
        assert (song["id"], song["root"], song["version"]) == ("song", "tone", "v2")
        assert song["route"] == [
            {"model": "tone", "version": "v1", "weight": 5.0},
            {"model": "tone", "version": "v2", "weight": 95.0},
        ]
        assert (plain["id"], plain["version"], "route" in plain) == ("tone", "v1", False)
        assert [each["model_id"] for each in await listed("/v1/models", xi_api_key="")] == ["song", "tone"]
        assert [each["id"] for each in (await listed("/v1/audio/models"))["models"]] == ["song", "tone"]
        assert (await listed("/v1/models/song"))["version"] == "v2"
        async with http.get("/v1/models/lost") as answer:
            assert answer.status == 503


async def version_of_job(http: aiohttp.ClientSession, job: str) -> str:
    async with http.get(f"/v1/jobs/{job}") as answer:
        return str((await answer.json())["version"])


@pytest.mark.parametrize(
    ("name", "path", "body"),
    [
        ("plain", "/v1/jobs", {"input": "x", "model": "plain"}),
        ("plain", "/api/generate", {"prompt": "x", "model": "plain"}),
        ("acestep/v15.turbo", "/release_task", {"prompt": "x", "model": "acestep/v15.turbo"}),
        ("tts-1", "/v1/audio/speech", {"input": "x", "model": "tts-1"}),
        ("eleven_v3", "/v1/text-to-speech/default", {"text": "x", "model_id": "eleven_v3"}),
        ("music_v1", "/v1/music", {"prompt": "x", "model_id": "music_v1"}),
    ],
)
async def test_an_api_goes_by_the_route_of_the_name_that_its_clients_send(
    bus: Bus, bus_settings: BusSettings, name: str, path: str, body: dict[str, str]
) -> None:
    async with stack(bus, bus_settings, "v1", "v2", num_gateways=1) as found:
        http = found.gateways[0].http
        await found.store.set(name, targets(v2=1))
        await applied(found, name)
        waiting = asyncio.ensure_future(http.post(path, json=body))
        job = await newest(http)
        waiting.cancel()
        await asyncio.wait({waiting})
    assert (job["model"], job["version"]) == ("tone", "v2")


async def newest(http: aiohttp.ClientSession) -> dict[str, Any]:
    """The newest job, once there is one."""
    async with asyncio.timeout(20):
        while True:
            async with http.get("/v1/jobs?limit=1") as answer:
                if jobs := (await answer.json())["jobs"]:
                    return dict(jobs[0])
            await asyncio.sleep(0.01)


async def test_a_request_over_nats_goes_by_its_route(bus: Bus, bus_settings: BusSettings) -> None:
    async with stack(bus, bus_settings, "v1", "v2", num_gateways=1) as found, background_tasks() as tasks:
        services, http = found.gateways[0]
        await found.store.set("song", targets(v2=1))
        await applied(found, "song")
        tasks.create_task(nats_api(services, tasks).run())
        await asyncio.sleep(0)
        await services.bus.connection.flush()
        client = await nats.connect(bus_settings.nats)
        try:
            body = msgspec.json.encode({"model": "song", "input": "x", "run_on": True})
            answer = await client.request(services.bus.subjects.submit, body, timeout=20)
        finally:
            await client.close()
        assert await version_of_job(http, msgspec.json.decode(answer.data)["job"]) == "v2"
