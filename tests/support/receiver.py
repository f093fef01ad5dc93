"""Whom webhooks are sent to."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.waiting import eventually


@dataclass
class ReceivedEvent:
    """One event as it was received."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def payload(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    @property
    def type(self) -> str:
        return str(self.payload["type"])

    @property
    def job(self) -> str:
        return str(self.payload["data"]["id"])

    def is_signed_with(self, key: bytes) -> bool:
        signed = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return self.headers.get("webhook-signature") == f"v1,{wanted}"


@dataclass
class Receiver:
    url: str = ""
    events: list[ReceivedEvent] = field(default_factory=list)
    #: Answers to give before it is content, in order.
    refusals: list[int] = field(default_factory=list)
    #: Paths of all requests.
    paths: list[str] = field(default_factory=list)
    #: While it is not set, a sender waits for its answer.
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def of(self, job: str) -> list[ReceivedEvent]:
        return [each for each in self.events if each.job == job]

    async def types(self, job: str, wanted: Iterable[str], within_s: float = 30.0) -> list[str]:
        """The types of the events of a job, once all of `wanted` are among them."""
        wanted = set(wanted)
        await eventually(lambda: wanted <= {each.type for each in self.of(job)}, within_s)
        return [each.type for each in self.of(job)]

    async def _receive(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        body = await request.read()
        if len(body) != request.content_length:  # its sender was killed meanwhile
            return web.Response(status=400)
        await self.gate.wait()
        if self.refusals:
            status = self.refusals.pop(0)
            return web.Response(status=status, headers={"Location": f"{self.url}/elsewhere"})
        self.events.append(ReceivedEvent({name.lower(): value for name, value in request.headers.items()}, body))
        return web.Response(status=204)


@asynccontextmanager
async def receiving(address: str = "127.0.0.1") -> AsyncIterator[Receiver]:
    """A receiver at a loopback address, or with 0.0.0.0 at all of them."""
    receiver = Receiver()
    receiver.gate.set()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver._receive)
    # A hook that is never answered must not hold the end of its test.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, address, 0)
        await site.start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield receiver
    finally:
        await runner.cleanup()
