"""Requests by routes: shares, sessions, live changes on two gateways, versions apart. ADR 22."""

import asyncio
import math
from collections import Counter
from types import SimpleNamespace

import aiohttp
import pytest

import gateway.serve
from bus.jobs.client import Bus
from bus.routes.route import Target
from bus.routes.store import RouteStore
from bus.settings import BusSettings
from bus.transport.bucket import BucketCopy
from gateway.settings import GatewaySettings
from tests.support.doors import gateway_here, tone
from tests.support.routes import Stack, applied, refused, stack, targets, version_of, worker
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow


async def test_a_thousand_requests_are_split_as_the_weights_say(bus: Bus, bus_settings: BusSettings) -> None:
    async with stack(bus, bus_settings, "v1", "v2") as (store, gateways):
        await store.set("tone", targets(v1=95, v2=5))
        await applied(Stack(store, gateways))
        found: Counter[str] = Counter()
        for _ in range(20):
            found.update(await asyncio.gather(*(version_of(each.http) for each in gateways for _ in range(25))))
    assert found.total() == 1000
    # Five standard deviations: once in 1,700,000 runs by chance.
    assert abs(found["v2"] - 50) <= 5 * math.sqrt(1000 * 0.05 * 0.95), found


async def test_a_session_a_tenant_and_a_header_stay_with_their_target_on_every_gateway(
    bus: Bus, bus_settings: BusSettings
) -> None:
    async with stack(bus, bus_settings, "v1", "v2") as found:
        (store, gateways) = found
        for sticky, header in (("session", "X_Session_Id"), ("header:X-User", "X_USER")):
            await store.set("tone", targets(v1=50, v2=50), sticky)
            await applied(found)
            for number in range(8):
                each = [await version_of(one.http, **{header: f"s{number}"}) for one in gateways for _ in range(2)]
                assert len(set(each)) == 1, (sticky, number, each)
        await store.set("tone", targets(v1=50, v2=50), "tenant")
        await applied(found)
        assert len({await version_of(one.http, X_Session_Id=f"s{n}") for n in range(6) for one in gateways}) == 1


async def test_a_change_applies_to_requests_in_flight_on_both_gateways_and_none_fails(
    bus: Bus, bus_settings: BusSettings
) -> None:
    async with stack(bus, bus_settings, "v1", "v2") as found:
        await found.store.set("tone", targets(v1=1))
        await applied(found)
        ended, seen = asyncio.Event(), list[str]()

        async def load(http: aiohttp.ClientSession) -> None:
            while not ended.is_set():
                seen.append(await version_of(http))

        async with asyncio.TaskGroup() as tasks:
            for each in found.gateways:
                tasks.create_task(load(each.http))
            for change in (targets(v2=1), targets(v1=1), targets(v1=1, v2=1)):
                await found.store.set("tone", change)
                await applied(found)
                counted = len(seen)
                await eventually(lambda counted=counted: len(seen) > counted + 6)  # type: ignore[misc]
            ended.set()
    assert {"v1", "v2"} == set(seen)


async def test_a_repeat_under_its_id_attaches_although_the_route_has_changed(
    bus: Bus, bus_settings: BusSettings
) -> None:
    async with stack(bus, bus_settings, "v1", "v2", num_gateways=1) as found:
        http = found.gateways[0].http
        await found.store.set("tone", targets(v1=1))
        await applied(found)

        async def put() -> tuple[int, str]:
            async with http.put("/v1/jobs/mine", json=tone()) as answer:
                return answer.status, answer.headers.get("Antiphon-Voice", "")

        first = await put()
        await found.store.set("tone", targets(v2=1))
        await applied(found)
        again = await put()
        await found.store.remove("tone")
        await applied(found)
        assert (first[0], again[0], (await put())[0]) == (202, 200, 200)
        async with http.put("/v1/jobs/mine", json=tone(input="other")) as answer:
            assert answer.status == 409


async def test_without_a_route_a_new_version_gets_nothing_until_the_old_one_is_gone(
    bus: Bus, bus_settings: BusSettings
) -> None:
    async with gateway_here(bus_settings) as (services, http):
        known = services.fleet.known_versions
        async with worker(bus, "v10"):
            async with worker(bus, "v9"):
                await eventually(lambda: {"v9", "v10"} <= {*known.get("tone", {})})
                assert {await version_of(http) for _ in range(4)} == {"v9"}
            await eventually(lambda: services.fleet.known_cards["tone"].version == "v10")
            assert {await version_of(http) for _ in range(4)} == {"v10"}


async def test_a_request_that_names_a_version_gets_it_whatever_the_route_says(
    bus: Bus, bus_settings: BusSettings
) -> None:
    async with stack(bus, bus_settings, "v1", "v2", num_gateways=1) as found:
        http = found.gateways[0].http
        await found.store.set("tone", targets(v1=1))
        await found.store.set("song", targets(v1=1, v2=0))
        await applied(found, "song")
        for model, version in (("tone", "v2"), ("song", "v2"), ("song", "v1")):
            assert await version_of(http, model, version=version) == version
        assert "version: 'v3' of tone is not offered" in await refused(http, 404, version="v3")
        assert "version: 'v3' is none of the route 'song'; known are 'v1', 'v2'" in await refused(
            http, 404, model="song", version="v3"
        )


async def test_a_route_to_a_version_that_no_worker_has_is_a_503_that_names_it_and_hurts_no_other_request(
    bus: Bus, bus_settings: BusSettings
) -> None:
    async with stack(bus, bus_settings, "v1", num_gateways=1) as found:
        http = found.gateways[0].http
        await found.store.set("tone", targets(v7=1))
        await found.store.set("song", [Target(model="opera", weight=1)])
        await found.store.set("good", targets(v1=1))
        await applied(found, "good")
        text = await refused(http, 503)
        assert "no worker has offered version v7 of tone, to which the route 'tone' leads" in text
        assert "no worker has offered model opera, to which the route 'song'" in await refused(http, 503, model="song")
        assert await version_of(http, "good") == "v1"
        async with worker(bus, "v7"):
            await eventually(lambda: "v7" in found.gateways[0].services.fleet.known_versions["tone"])
            assert await version_of(http) == "v7"


async def test_a_route_to_a_model_without_a_version_goes_on_by_the_route_of_that_model(
    bus: Bus, bus_settings: BusSettings
) -> None:
    async with stack(bus, bus_settings, "v1", "v2", num_gateways=1) as found:
        http = found.gateways[0].http
        await found.store.set("song", [Target(model="tone", weight=1)])
        await applied(found, "song")
        assert await version_of(http, "song") == "v1"
        await found.store.set("tone", targets(v2=1))
        await applied(found)
        assert await version_of(http, "song") == "v2"


async def test_a_request_to_a_version_whose_workers_are_gone_is_refused_and_goes_to_no_other(
    bus: Bus, bus_settings: BusSettings
) -> None:
    async with gateway_here(bus_settings, no_worker_s=30.0) as (services, http), worker(bus, "v1"):
        store, known = RouteStore(bus, "test"), services.fleet.known_versions
        async with worker(bus, "v2"):
            await eventually(lambda: {"v1", "v2"} <= {*known.get("tone", {})})
        await eventually(lambda: [*services.fleet.workers] == ["w-v1"])
        await store.set("tone", targets(v1=1, v2=0))
        await store.set("song", targets(v2=1))
        await eventually(lambda: {"tone", "song"} <= {*services.routes.entries})
        services.fleet.unserved.tick(31)
        async with http.post("/v1/audio/speech", json={"model": "song", "input": "x"}) as answer:
            error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (503, "no_worker")
        assert "no worker has served model 'tone' in version v2 for 31 s" in error["message"]
        assert await version_of(http, "song") == "v2", "a durable job waits for a worker"
        assert await version_of(http) == "v1"


async def test_a_request_is_checked_by_the_card_of_its_version(bus: Bus, bus_settings: BusSettings) -> None:
    async with gateway_here(bus_settings) as (services, http), worker(bus, "v1"), worker(bus, "v2", max_input_chars=3):
        await eventually(lambda: {"v1", "v2"} <= {*services.fleet.known_versions.get("tone", {})})
        await RouteStore(bus, "test").set("song", targets(v2=1))
        await eventually(lambda: "song" in services.routes.entries)
        assert await version_of(http) == "v1"
        assert "has 4 characters, the limit is 3" in await refused(http, 422, model="song")


async def test_a_gateway_reads_the_routes_before_its_first_request(
    bus: Bus, bus_settings: BusSettings, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    await RouteStore(bus, "test").set("song", targets(v1=1))
    ready, stop = asyncio.get_running_loop().create_future(), asyncio.Event()

    async def never(_: object) -> None:
        """Reads no bucket again: what is known was read before."""
        await stop.wait()

    def info(event: str, **fields: object) -> None:
        if event == "gateway.ready":
            ready.set_result(fields["url"])

    monkeypatch.setattr(BucketCopy, "run", never)
    monkeypatch.setattr(gateway.serve, "log", SimpleNamespace(info=info, debug=info))
    settings = GatewaySettings(bus=bus_settings, port=0)
    serving = asyncio.ensure_future(gateway.serve.serve(settings, stop))
    try:
        url = await asyncio.wait_for(ready, 20)
        async with http.post(f"{url}/v1/jobs", json=tone(model="song")) as answer:
            assert answer.status == 503
            assert "version v1 of tone, to which the route 'song' leads" in (await answer.json())["detail"]
    finally:
        stop.set()
        await serving
