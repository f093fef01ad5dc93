"""A disk that is really full, as root on a small tmpfs: new jobs are refused, and what ran goes on once there is room."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, ClientTimeout

from tests.support.tone import tone_pcm
from tests.support.up import Up, running
from tests.support.waiting import eventually
from tests.support.web import OWN_RUN, Body, speech, state, until_state

pytestmark = pytest.mark.slow

SECONDS = 25.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mount = tmp_path / "disk"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "antiphon-test", str(mount)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip(f"mounting a small file system is not permitted: {made.stderr.strip()}")
    try:
        yield mount
    finally:
        subprocess.run(["umount", "--lazy", str(mount)], check=True)


def fill(disk: Path) -> Path:
    """A file that leaves not a byte."""
    ballast = disk / "ballast"
    deadline = time.monotonic() + 20
    with ballast.open("wb", buffering=0) as file:
        while (free := shutil.disk_usage(disk).free) > 0:
            assert time.monotonic() < deadline, f"{free} bytes are free again and again"
            with contextlib.suppress(OSError):  # the server was faster, and may give it back
                file.write(bytes(min(free, 1 << 20)))
    return ballast


def told(up: Up, event: str) -> list[dict[str, object]]:
    return [line for line in up.events() if line["event"] == event]


@pytest.mark.parametrize("nodes", [1, 3])
async def test_a_full_disk_refuses_new_jobs_and_every_running_stream_ends_whole(disk: Path, nodes: int) -> None:
    with running(disk, "--models", "tone", "--slots", "8", "--nats-nodes", str(nodes)) as up:
        async with ClientSession(timeout=ClientTimeout(total=180)) as http:
            asked = speech(seconds=SECONDS, compute_ms=100, device="own")
            answers = [await http.post(f"{up.http}/v1/audio/speech", json=asked, headers=OWN_RUN) for _ in range(4)]
            bodies = [Body(answer) for answer in answers]
            await asyncio.gather(*(body.at_least(48_000) for body in bodies))
            ballast = fill(disk)
            await eventually(lambda: len(told(up, "disk.full")) == nodes, within_s=20)
            body = {"model": "tone", "input": "x", "params": {"seconds": 0.5}}
            async with http.post(f"{up.http}/v1/jobs", json=body) as refused:
                assert refused.status in {503, 507}
            assert told(up, "disk.has_room") == []
            ballast.unlink()
            await eventually(lambda: len(told(up, "disk.has_room")) == nodes, within_s=20)
            whole = await asyncio.gather(*(body.rest() for body in bodies))
            assert [heard == tone_pcm(SECONDS) for heard in whole] == [True] * 4
            for each in bodies:
                assert (await state(http, up.http, each.job))["state"] == "done"
            async with http.post(f"{up.http}/v1/jobs", json=body) as taken:
                assert taken.status == 202
                job = (await taken.json())["id"]
            await until_state(http, up.http, job, "done")
        up.stop()
