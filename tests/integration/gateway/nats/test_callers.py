"""Callers of the NATS API that wait, leave, are too many, or lose their gateway or server."""

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from bus.settings import BusSettings
from tests.support.doors import gated, gateway_here, nats_api
from tests.support.fleets import small_bus, stack_of
from tests.support.nats_asking import STEADY, WHOLE, job, until_ended
from tests.support.nats_cli import Answer, NoResponders, nats_req
from tests.support.programs import Fleet
from tests.support.restarts import own_server
from tests.support.tone import tone_pcm
from tests.support.waiting import eventually


@pytest.fixture
async def cli(nats_url: str) -> AsyncIterator[Client]:
    client = await nats.connect(nats_url)
    yield client
    await client.close()


class _Over(Exception):
    """Ends the task group of the API."""


@asynccontextmanager
async def door_here(settings: BusSettings, **more: Any) -> AsyncIterator[str]:
    """A gateway with its NATS API in this process; the submit subject, once requests of a known model are taken."""
    async with gateway_here(settings) as (gateway, _):
        try:
            async with asyncio.TaskGroup() as tasks:
                await eventually(lambda: gateway.fleet.known_models, within_s=20)
                tasks.create_task(nats_api(gateway, tasks, **more).run())
                await asyncio.sleep(0)
                await gateway.bus.connection.flush()
                yield gateway.bus.subjects.submit
                raise _Over
        except* _Over:
            await asyncio.sleep(0)


async def test_a_caller_whose_job_waits_gets_its_place_and_its_leaving_is_noticed(
    fleet: Fleet, bus_settings: BusSettings, cli: Client, tmp_path: Path
) -> None:
    fleet.worker("w1", "tone", 1)
    gate = {"path": str(tmp_path / "never"), "before_block": 0}
    async with asyncio.timeout(60), door_here(bus_settings, waiting_s=0.3) as submit:
        first = asyncio.create_task(nats_req(cli, submit, job(seconds=1, device="own", gate=gate), **WHOLE))
        await eventually(lambda: fleet_started(fleet), within_s=20)
        for asked in range(2):
            left = await nats_req(cli, submit, job(seconds=1), replies=2 + asked, timeout_s=20, reply_timeout_s=20)
            waiting = left.json(1)
            assert (waiting["status"], waiting["job"], waiting["position"]) == ("waiting", left.json(0)["job"], 0)
            assert await until_ended(cli, bus_settings.root, left.json(0)["job"], within_s=20) == "cancelled"
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


def fleet_started(fleet: Fleet) -> bool:
    return any(program.events("job.started") for program in fleet.programs)


async def test_a_caller_that_leaves_in_mid_stream_frees_the_slot(
    fleet: Fleet, bus_settings: BusSettings, cli: Client
) -> None:
    fleet.worker("w1", "tone", 1)
    async with asyncio.timeout(30), door_here(bus_settings) as submit:
        left = await nats_req(cli, submit, job(seconds=600, **STEADY), replies=4, reply_timeout_s=5)
        assert len(left) == 4
        # The one slot is free again at the next block, long before the 10 s of a silent job.
        answer = await nats_req(cli, submit, job(seconds=0.2), **WHOLE)
        assert answer.pcm == tone_pcm(0.2)
        assert answer.rtts_s[-1] < 5
        assert await until_ended(cli, bus_settings.root, left.json(0)["job"]) == "cancelled"


async def test_a_second_listener_keeps_the_job_alive(fleet: Fleet, bus_settings: BusSettings, cli: Client) -> None:
    fleet.worker()
    body = job({"id": "shared"}, seconds=1.5, **STEADY)
    async with asyncio.timeout(30), door_here(bus_settings) as submit:
        whole, left = await asyncio.gather(
            nats_req(cli, submit, body, **WHOLE), nats_req(cli, submit, body, replies=4, reply_timeout_s=5)
        )
    assert len(left) == 4
    assert whole.pcm == tone_pcm(1.5)


async def test_beyond_its_share_of_the_places_a_tenant_is_refused_at_once_and_another_one_is_served(
    fleet: Fleet, bus_settings: BusSettings, cli: Client, tmp_path: Path
) -> None:
    fleet.worker("w1", "tone", 16)
    body = job(**gated(tmp_path / "open", 5, seconds=1, **STEADY))
    async with asyncio.timeout(60), door_here(bus_settings, max_callers=9) as submit:
        busy = [asyncio.create_task(nats_req(cli, submit, body, **WHOLE)) for _ in range(8)]
        await eventually(lambda: len(fleet.programs[0].events("job.started")) == 8, within_s=20)
        refused = await nats_req(cli, submit, job(seconds=0.1), **WHOLE)
        assert (refused.header(0, "Nats-Service-Error-Code"), refused.json(0)["code"]) == ("429", "too_many")
        assert "nats_callers: tenant public holds 8" in refused.json(0)["detail"]
        assert refused.replies[1].data == b""
        assert (await nats_req(cli, f"{submit}.acme", job(seconds=0.1), **WHOLE)).pcm == tone_pcm(0.1)
        (tmp_path / "open").touch()
        assert [answer.pcm for answer in await asyncio.gather(*busy)] == [tone_pcm(1)] * 8
        assert (await nats_req(cli, submit, job(seconds=0.1), **WHOLE)).pcm == tone_pcm(0.1)


@pytest.mark.slow
async def test_a_gateway_that_stops_says_so_and_another_one_sends_all_the_audio(
    fleet: Fleet, bus_settings: BusSettings, cli: Client
) -> None:
    first, _ = fleet.gateway("--drain-s", "0.1")
    fleet.worker()
    first.wait_for("submit.ready")
    body = job({"id": "moving"}, seconds=3, **STEADY)
    stopped = asyncio.Event()

    def stop_after_the_second(reply: Msg, _: float) -> None:
        if (reply.headers or {}).get("Antiphon-Block") == "1":
            first.send(signal.SIGTERM)
            stopped.set()

    submit = f"{bus_settings.root}.submit"
    async with asyncio.timeout(120):
        cut = await nats_req(cli, submit, body, each=stop_after_the_second, **WHOLE)
        assert (cut.header(-2, "Nats-Service-Error-Code"), cut.json(-2)["code"]) == ("503", "gateway_stopping")
        assert cut.replies[-1].data == b""
        assert stopped.is_set()
        await asyncio.to_thread(first.process.wait, 20)
        with pytest.raises(NoResponders):
            await nats_req(cli, submit, body)
        second, _ = fleet.gateway()
        await asyncio.to_thread(second.wait_for, "submit.ready")
        assert (await nats_req(cli, submit, body, **WHOLE)).pcm == tone_pcm(3)


async def test_a_gateway_with_time_to_drain_serves_its_callers_to_the_end(
    fleet: Fleet, bus_settings: BusSettings, cli: Client
) -> None:
    gateway, _ = fleet.gateway("--drain-s", "20")
    fleet.worker()
    gateway.wait_for("submit.ready")

    def stop_after_the_second(reply: Msg, _: float) -> None:
        if (reply.headers or {}).get("Antiphon-Block") == "1":
            gateway.send(signal.SIGTERM)

    async with asyncio.timeout(30):
        body = job(seconds=1.5, **STEADY)
        answer = await nats_req(cli, f"{bus_settings.root}.submit", body, each=stop_after_the_second, **WHOLE)
        assert answer.pcm == tone_pcm(1.5)
        assert await asyncio.to_thread(gateway.process.wait, 20) == 0


@pytest.mark.slow
async def test_after_a_restart_of_the_server_the_caller_gets_an_error_and_its_next_request_every_sample() -> None:
    with tempfile.TemporaryDirectory(prefix="antiphon-nats-") as folder, own_server(Path(folder)) as server:
        settings = small_bus(server.url, ack_wait_s=2.0)
        with stack_of(settings) as stack:
            client = await nats.connect(
                server.url, reconnect_time_wait=0.1, max_reconnect_attempts=-1, error_cb=ignored
            )
            body, submit = job({"id": "long"}, seconds=5, **STEADY), f"{settings.root}.submit"
            begun = asyncio.Event()
            async with asyncio.timeout(60):
                request = asyncio.create_task(
                    nats_req(client, submit, body, each=lambda *_: begun.set(), **WHOLE), name="request"
                )
                await begun.wait()
                await asyncio.to_thread(server.restart)
                cut: Answer = await request
                assert (cut.header(-2, "Nats-Service-Error-Code"), cut.json(-2)["code"]) == ("503", "bus_unreachable")
                assert "send the request again" in cut.json(-2)["detail"]
                whole = await nats_req(client, submit, body, **WHOLE)
                assert whole.pcm == tone_pcm(5)
                assert not stack.gateway.events("job.abandoned")
            await client.close()


async def ignored(_: Exception) -> None:
    """nats-py reports the broken connection that the test made."""
