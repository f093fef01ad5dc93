"""Logs with damaged blocks in the store: each way to read one says which frames are lost, and the rest can be read."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from bus.jobs.client import Bus
from bus.jobs.submit import submit
from tests.support.damage import block_of, overwrite, stored, stream_folder
from tests.support.doors import gateway_here
from tests.support.jobs import tone_job
from tests.support.log_writer import finish, take, write_pcm

#: Bytes of a block: all of the log in one page, or a few blocks in a page.
SMALL, LARGE = 2_000, 30_000
NUM_BLOCKS = 12
#: The block that is damaged.
LOST = 7


def pcm_of(block_bytes: int) -> bytes:
    """The audio of a log: each block is made of one number of its own."""
    return b"".join((1000 + number).to_bytes(2, "little") * (block_bytes // 2) for number in range(NUM_BLOCKS))


async def write_job(bus: Bus, job_id: str, block_bytes: int) -> None:
    job = tone_job(id=job_id)
    await submit(bus, job)
    writer = await take(bus, job)
    await write_pcm(writer, pcm_of(block_bytes), block_bytes)
    await finish(writer)


@asynccontextmanager
async def damaged(folder: Path, block_bytes: int) -> AsyncIterator[aiohttp.ClientSession]:
    """A gateway on a store in which random bytes overwrote block `LOST` of `hurt`; `whole` is beside it."""
    async with stored(folder) as bus:
        await write_job(bus, "hurt", block_bytes)
        await write_job(bus, "whole", block_bytes)
    file = block_of(stream_folder(folder, "ANTIPHON_REPLIES") / "msgs")
    offset = file.read_bytes().index(pcm_of(block_bytes)[LOST * block_bytes : (LOST + 1) * block_bytes])
    overwrite(file, offset + block_bytes // 4)
    async with stored(folder) as bus, gateway_here(bus.settings) as (_, http):
        yield http


async def refused(http: aiohttp.ClientSession, path: str, headers: dict[str, str] | None = None) -> str:
    """The detail of a 502 that names a damaged log."""
    async with http.get(f"/v1/jobs/hurt/{path}", headers=headers) as answer:
        problem = await answer.json()
    assert (answer.status, problem["code"], problem["retryable"]) == (502, "log_damaged", False), problem
    return str(problem["detail"])


async def test_every_read_of_a_damaged_log_names_its_lost_frames_and_the_rest_can_be_read(tmp_path: Path) -> None:
    frames = SMALL // 2
    first, stop = LOST * frames, (LOST + 1) * frames
    lost = f"frames {first} to {stop - 1} of the job's audio are lost"
    with capture_logs() as logs:
        async with damaged(tmp_path, SMALL) as http:
            for path in (
                "audio?format=pcm",
                "audio?format=wav",
                "audio?format=mp3",
                "audio",
                f"blocks/{LOST}",
                "marks",
            ):
                assert lost in await refused(http, path), path
            pcm = pcm_of(SMALL)
            for start, end in ((0, 2 * first), (2 * stop, len(pcm))):
                part = {"Range": f"bytes={start}-{end - 1}"}
                async with http.get("/v1/jobs/hurt/audio?format=pcm", headers=part) as answer:
                    assert (answer.status, await answer.read()) == (206, pcm[start:end])
            assert lost in await refused(http, "audio?format=pcm", {"Range": f"bytes={2 * first - 2}-{2 * first + 1}"})
            async with http.get(f"/v1/jobs/hurt/audio?format=pcm&from_frame={stop}") as answer:
                assert (answer.status, await answer.read()) == (200, pcm[2 * stop :])
            async with http.get(f"/v1/jobs/hurt/blocks/{LOST + 1}") as answer:
                assert answer.status == 200
            async with http.get("/v1/jobs/hurt") as answer:
                assert (await answer.json())["state"] == "done"
            async with http.get("/v1/jobs/hurt/events") as answer:
                events = (await answer.read()).decode().split("\n\n")
            (shown,) = (event for event in events if "event: damaged" in event)
            data = json.loads(next(line for line in shown.splitlines() if line.startswith("data: "))[6:])
            assert (data["first_frame"], data["stop_frame"]) == (first, stop)
            async with http.get("/v1/jobs/whole/audio?format=pcm") as answer:
                assert (answer.status, await answer.read()) == (200, pcm)
    found = [event for event in logs if event["event"] == "log.damaged"]
    assert [(each["job"], each["first_frame"], each["stop_frame"]) for each in found] == [("hurt", first, stop)]


async def test_damage_behind_the_first_page_cuts_the_response_once_and_refuses_the_next(tmp_path: Path) -> None:
    async with damaged(tmp_path, LARGE) as http:
        with pytest.raises(aiohttp.ClientPayloadError):
            async with http.get("/v1/jobs/hurt/audio?format=pcm") as answer:
                assert answer.status == 200
                await answer.read()
        first = LOST * LARGE // 2
        assert f"frames {first} to {first + LARGE // 2 - 1} " in await refused(http, "audio?format=pcm")
