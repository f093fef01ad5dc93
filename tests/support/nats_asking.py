"""Asking at the NATS door: a stack with two gateways, bodies, and how a job ended."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from tests.support.fleets import small_bus
from tests.support.nats_cli import nats_req
from tests.support.programs import Program, fleet_of
from tests.support.tone import tone_pcm

#: A block each 50 ms, made in 50 ms: long enough to be hit in the middle.
STEADY = {"block_ms": 50, "compute_ms": 50, "device": "own"}
#: Flags of every documented command that wants the whole answer.
WHOLE: dict[str, Any] = {"wait_for_empty": True, "reply_timeout_s": 20.0, "timeout_s": 20.0}


def job(fields: dict[str, Any] | None = None, **params: Any) -> str:
    """Body of a request for `tone`."""
    return json.dumps({"model": "tone", "input": "x", "params": params, **(fields or {})})


async def until_ended(client: Client, root: str, job_id: str, within_s: float = 20.0) -> str:
    """How a job of the tenant `public` ended, as its log says."""
    subject = f"$JS.API.DIRECT.GET.{root.upper()}_REPLIES.{root}.reply.public.{job_id}.c"
    async with asyncio.timeout(within_s):
        while True:
            last = await client.request(subject, b"", timeout=within_s)
            kind = (last.headers or {}).get("Antiphon-Kind", "")
            if kind in {"done", "failed", "cancelled", "expired"}:
                return kind
            await asyncio.sleep(0.02)


@dataclass
class Stack:
    """Two gateways and a worker with one slot, shared by the tests of a module: none of them may harm the next."""

    gateways: list[Program]
    worker: Program
    root: str
    url: str

    @property
    def submit(self) -> str:
        return f"{self.root}.submit"

    def events(self, name: str) -> list[dict[str, Any]]:
        """Of both gateways."""
        return [event for gateway in self.gateways for event in gateway.events(name)]

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A client; after the block the next request is still served, and no unexpected error occurred."""
        client = await nats.connect(self.url)
        async with asyncio.timeout(20):
            # A gateway that has just started does not say of a model that no worker has it.
            while {await self._status(client) for _ in range(12)} != {404}:
                await asyncio.sleep(0.1)
        yield client
        answer = await nats_req(client, self.submit, job(seconds=0.1), **WHOLE)
        assert answer.pcm == tone_pcm(0.1)
        await client.close()
        for program in (*self.gateways, self.worker):
            assert program.process.poll() is None
            assert not program.events("submit.failed")
            assert not program.events("bus.callback_failed")

    async def _status(self, client: Client) -> int:
        return int((await nats_req(client, self.submit, job({"model": "zzz"}), **WHOLE)).json(0)["status"])


@contextmanager
def two_gateways(nats_url: str) -> Iterator[Stack]:
    with fleet_of(small_bus(nats_url, ack_wait_s=30.0)) as fleet:
        gateways = [fleet.gateway()[0] for _ in range(2)]
        worker = fleet.worker("w1", "tone", 1)
        for gateway in gateways:
            gateway.wait_for("submit.ready")
        yield Stack(gateways, worker, fleet.settings.root, nats_url)


def stack() -> Any:
    """A fixture: `two_gateways` for all tests of a module."""

    @pytest.fixture(scope="module")
    def stack(nats_url: str) -> Iterator[Stack]:
        with two_gateways(nats_url) as started:
            yield started

    return stack


def cli() -> Any:
    """A fixture: a client of the fixture `stack`."""

    @pytest.fixture
    async def cli(stack: Stack) -> AsyncIterator[Client]:
        async with stack.client() as client:
            yield client

    return cli
