"""`antiphon up` as its user runs it: the real programs, one line on stdout, sound over HTTP, nothing left behind."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import pytest
from aiohttp import ClientError, ClientSession

from tests.support.tone import tone_pcm
from tests.support.up import READY_S, running
from tests.support.waiting import eventually, gone

#: What a stack says of a machine that gives it little time; nothing is wrong with it then.
SLOW = {"stack.waiting", "pull.timed_out", "pull.heartbeat_missed"}


async def heard(http: ClientSession, url: str, seconds: float) -> bytes:
    body = {"model": "tone", "input": "x", "response_format": "pcm", "params": {"seconds": seconds}}
    async with http.post(f"{url}/v1/audio/speech", json=body) as response:
        assert response.status == 200, await response.text()
        return await response.read()


async def test_one_line_then_sound_then_nothing_left(tmp_path: Path) -> None:
    with running(tmp_path / "state", "--models", "tone,speech", "--workers", "2", "--slots", "2") as up:
        assert up.ready_line.keys() == {"ready", "http", "nats", "pids"}
        assert up.ready_line["ready"] is True
        assert up.ready_line["pids"]["workers"].keys() == {"w1", "w2"}
        async with ClientSession() as http:
            assert await heard(http, up.http, 0.5) == tone_pcm(0.5)
            async with http.get(f"{up.http}/v1/fleet") as response:
                fleet = {worker["id"]: worker for worker in (await response.json())["workers"]}
        assert {name: worker["pid"] for name, worker in fleet.items()} == up.ready_line["pids"]["workers"]
        assert all(set(worker["models"]) == {"tone", "speech"} and worker["slots"] == 2 for worker in fleet.values())
        pids = up.pids()
        assert up.stop() == ""
        assert all(map(gone, pids))
        processes = {event["process"] for event in up.events()}
        assert processes == {"up", "gateway", "worker w1", "worker w2"}
        loud = [event for event in up.events() if event["level"] not in {"debug", "info"}]
        assert [event for event in loud if event["event"] not in SLOW] == []
        assert sorted(event["worker"] for event in up.events() if event["event"] == "host.stopped") == ["w1", "w2"]


@pytest.mark.slow
async def test_sound_comes_again_after_each_process_was_killed(tmp_path: Path) -> None:
    with running(tmp_path / "state", "--models", "tone") as up:
        pids = up.ready_line["pids"]
        async with ClientSession() as http:
            for pid in (pids["workers"]["w1"], pids["nats"], pids["gateway"][0]):
                os.kill(pid, signal.SIGKILL)
                await eventually(lambda pid=pid: gone(pid))
                await works_again(http, up.http)
                assert await heard(http, up.http, 0.2) == tone_pcm(0.2)
        up.stop()


async def works_again(http: ClientSession, url: str) -> None:
    """Once a gateway answers that a job would be accepted, and that a worker would take it now."""
    async with asyncio.timeout(READY_S):
        while True:
            with contextlib.suppress(ClientError):
                async with http.get(f"{url}/readyz") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.02)


@pytest.mark.slow
async def test_killed_itself_it_takes_everything_along_and_the_store_is_free(tmp_path: Path) -> None:
    with running(tmp_path / "state", "--models", "tone") as up:
        pids = up.pids()
        assert len(pids) >= 4  # nats, gateway, worker, engine host
        up.process.kill()
        up.process.wait(timeout=20)
        await eventually(lambda: all(map(gone, pids)))
    with running(tmp_path / "state", "--models", "tone") as up:
        up.stop()
