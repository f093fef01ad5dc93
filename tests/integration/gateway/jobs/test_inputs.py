"""Jobs that name files: an engine reads them, by way of a gateway and a worker."""

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from bus.blobs.store import BlobStore
from bus.jobs.client import Bus, open_bus
from bus.settings import BusSettings
from tests.support import engine_package
from tests.support.blobs import becomes, key_of, put
from tests.support.fleets import small_bus
from tests.support.programs import fleet_of
from tests.support.waiting import eventually
from tests.support.web import ready

#: `tone`, but its audio is its file `take`: s16le at 24 kHz.
ENGINE = """
from dataclasses import replace

import numpy as np

from gpuworker.engine import Block, Done, Rejected
from gpuworker.engines.tone import Tone


class Reader(Tone):
    def capabilities(self):
        return replace(super().capabilities(), name="reader", inputs={"take": "s16le, 24 kHz, mono"}, bound=None)

    def validate(self, job):
        if "take" not in job.inputs:
            raise Rejected("inputs.take", "is missing")
        return super().validate(job)

    def generate(self, jobs):
        for index, job in enumerate(jobs):
            pcm = np.fromfile(job.inputs["take"], "<i2").astype(np.float32) / 32768
            yield index, Block(0, pcm[:, None])
            yield index, Done({"path": job.inputs["take"]})
"""


class Stack:
    """A gateway, and a worker with the engine `reader`."""

    def __init__(self, url: str, settings: BusSettings, cache: Path) -> None:
        self.url = url
        self.settings = settings
        self.cache = cache


@pytest.fixture(scope="module")
def stack(nats_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder, cache = tmp_path_factory.mktemp("reader"), tmp_path_factory.mktemp("cache")
    engine_package.install(folder, "reader", "Reader", ENGINE)
    settings = small_bus(nats_url)
    flags = ("--blob-cache", str(cache), "--blob-cache-bytes", str(2 << 20))
    with fleet_of(settings) as fleet, engine_package.worker(settings, folder, "reader", "w1", *flags):
        _, url = fleet.gateway()
        yield Stack(url, settings, cache)


@pytest.fixture
async def http(stack: Stack) -> AsyncIterator[ClientSession]:
    async with ClientSession(stack.url) as session:
        await ready(session, "")
        yield session


@pytest.fixture
async def bus(stack: Stack) -> AsyncIterator[Bus]:
    async with open_bus(stack.settings, "test") as opened:
        yield opened


def take(num_frames: int) -> bytes:
    return secrets.token_bytes(2 * num_frames)


async def reading(http: ClientSession, digest: str, **fields: Any) -> tuple[int, Any]:
    body = {"model": "reader", "input": "x", "inputs": {"take": digest}, **fields}
    async with http.post("/v1/jobs", json=body) as answer:
        return answer.status, await answer.json()


async def audio(http: ClientSession, job: str) -> bytes:
    async with http.get(f"/v1/jobs/{job}/audio?format=pcm") as answer:
        assert answer.status == 200, await answer.text()
        return await answer.read()


async def test_a_job_reads_the_file_that_it_names(http: ClientSession, stack: Stack) -> None:
    data = take(30_000)
    _, blob = await put(http, data)
    status, job = await reading(http, blob["digest"])
    assert status == 202
    assert await audio(http, job["id"]) == data
    async with http.get(f"/v1/jobs/{job['id']}") as answer:
        path = Path((await answer.json())["engine"]["path"])
    assert path.name == "take"
    await eventually(lambda: not path.exists())
    assert (stack.cache / blob["digest"]).read_bytes() == data
    async with http.delete(f"/v1/blobs/{blob['digest']}") as answer:
        assert answer.status == 409, "until the job's deadline"


async def test_the_cache_of_a_worker_keeps_to_its_bytes(http: ClientSession, stack: Stack) -> None:
    for _ in range(4):
        data = take(300_000)
        _, blob = await put(http, data)
        _, job = await reading(http, blob["digest"])
        assert await audio(http, job["id"]) == data
    files = [path for path in stack.cache.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 2 << 20
    assert blob["digest"] in {path.name for path in files}


@pytest.mark.parametrize(
    ("inputs", "path", "says"),
    [
        ({"take": "0" * 64}, "inputs.take", "PUT /v1/blobs"),
        ({"take": "abc"}, "inputs.take", "no SHA-256"),
        ({"tkae": "0" * 64}, "inputs.tkae", "take"),
        ({"a b": "0" * 64}, "inputs", "a b"),
        ({f"n{index}": "0" * 64 for index in range(17)}, "inputs", "16"),
    ],
)
async def test_an_input_that_is_none_is_refused_by_name(
    http: ClientSession, inputs: dict[str, str], path: str, says: str
) -> None:
    status, error = await reading(http, "", inputs=inputs)
    assert (status, error["path"]) == (422, path)
    assert says in error["detail"]


async def test_a_digest_of_another_tenant_is_no_input(http: ClientSession, bus: Bus) -> None:
    data = take(10)
    status, blob = await put(http, data, headers=await key_of(http, bus, "owner"))
    assert status == 201
    status, error = await reading(http, blob["digest"])
    assert (status, error["path"]) == (422, "inputs.take")
    async with http.get(f"/v1/blobs/{blob['digest']}") as answer:
        assert answer.status == 404


async def test_inputs_are_a_part_of_a_jobs_identity(http: ClientSession) -> None:
    digests = [(await put(http, take(10)))[1]["digest"] for _ in range(2)]
    status, _ = await reading(http, digests[0], id="same")
    assert status == 202
    assert (await reading(http, digests[0], id="same"))[0] == 200
    assert (await reading(http, digests[1], id="same"))[0] == 409


async def test_an_input_that_was_lost_after_acceptance_fails_its_job_by_name(
    http: ClientSession, bus: Bus, stack: Stack
) -> None:
    data = take(10)
    _, blob = await put(http, data)
    store = BlobStore(bus)
    found = await store.get("public", blob["digest"])
    await store.purge_chunks(found.blob.upload)  # as if its store had been damaged
    (stack.cache / blob["digest"]).unlink(missing_ok=True)
    _, job = await reading(http, blob["digest"])

    async def state() -> str:
        async with http.get(f"/v1/jobs/{job['id']}") as answer:
            shown = await answer.json()
        return f"{shown['state']} {shown.get('error', {}).get('path', '')}"

    await becomes(state, "failed inputs.take")
