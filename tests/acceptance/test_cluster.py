"""`antiphon up --nats-nodes 3`: everything as on one server, and the loss of a leader is a pause, never a job."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from aiohttp import ClientSession, ClientTimeout

from bus.client import open_bus
from bus.settings import BusSettings
from tests.support.cluster import Cluster, Load
from tests.support.tone import tone_pcm
from tests.support.up import running
from tests.support.web import speech

pytestmark = pytest.mark.slow

REPLIES = "ANTIPHON_REPLIES"


async def test_a_leader_killed_five_times_under_load_costs_pauses_and_no_job(tmp_path: Path) -> None:
    flags = ("--models", "tone", "--nats-nodes", "3", "--workers", "2", "--slots", "8")
    with running(tmp_path / "state", *flags) as up:
        assert len(up.told["pids"]["nats"]) == 3
        async with (
            open_bus(BusSettings(nats=up.told["nats"]), "test", declare=False) as bus,
            ClientSession(timeout=ClientTimeout(total=120)) as http,
        ):
            info = await bus.js.info(REPLIES)
            assert info["config"]["num_replicas"] == 3
            cluster, load = Cluster(tmp_path / "state", bus), Load(http, up.http)
            running_load = asyncio.create_task(load.run(8, 2, seconds=10.0))
            await asyncio.sleep(2.0)
            pauses = []
            for _ in range(5):
                await cluster.healthy()
                name = await cluster.leader(REPLIES)
                killed_at = time.monotonic()
                cluster.kill(name)
                async with http.post(f"{up.http}/v1/jobs", json={"model": "tone", "input": "x"}) as response:
                    submitted = (response.status, round(time.monotonic() - killed_at, 2))
                await asyncio.sleep(1.0)
                await cluster.healthy()
                await asyncio.sleep(2.0)
                pauses.append(round(load.pause_s(killed_at), 2))
                print(f"leader {name} killed: pause {pauses[-1]} s; a submit answered {submitted}", load.real_time, load.short)
            load.stopping.set()
            await running_load
        print(f"pauses {pauses}; real-time {load.real_time}; short {load.short}")
        assert load.real_time.broken == []
        assert load.short.broken == []
        assert load.real_time.whole >= 8
        up.stop()
