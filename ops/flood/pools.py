"""Floods: one function for each pool that tenants share, registered by name. Each takes all it can get until cancelled.

A flood keeps no promise of a client: it does not read, does not finish, does not back off for long. The jobs that it
leaves are cancelled by `Target.cancel_jobs`.
"""

import asyncio
import itertools
import json
from collections.abc import Callable, Coroutine
from typing import Any, Final
from urllib.parse import urlsplit

from bus.jobs.client import open_bus
from bus.settings import BusSettings
from bus.transport.parser import Message
from ops.flood.receivers import hanging_receivers
from ops.flood.target import Target

Flood = Callable[[Target], Coroutine[Any, Any, None]]

#: Every flood by the name of its pool.
POOLS: Final[dict[str, Flood]] = {}

#: A job that waits: the flood's worker has one slot and takes long.
_WAITING: Final = {"model": "music", "params": {"seconds": 60}, "run_on": True, "lane": "batch"}
_PROMPT_CHARS: Final = 1800
_LONG_S: Final = 300
_SILENT: Final = 300
_STALLED: Final = 50
_STALLED_BYTES: Final = 1 << 20
_RECEIVERS: Final = 200
#: A whole answer is left unread for this long.
_UNREAD_S: Final = 30.0


def pool(flood: Flood) -> Flood:
    """Register a flood by its function's name."""
    POOLS[getattr(flood, "__name__", "")] = flood
    return flood


@pool
async def queue(target: Target) -> None:
    """Fill JOBS with jobs that wait."""
    numbers = itertools.count()

    async def once() -> None:
        await target.post("/v1/jobs", {**_WAITING, "input": _prompt(next(numbers), _PROMPT_CHARS)})

    await target.repeat(16, once)


@pool
async def store(target: Target) -> None:
    """Fill REPLIES with long recordings that end at once."""
    numbers = itertools.count()

    async def once() -> None:
        await target.post("/v1/jobs", _tone(next(numbers), _LONG_S))

    await target.repeat(4, once)


@pool
async def encoders(target: Target) -> None:
    """Encode one finished recording again and again, each time with other parameters."""
    job = await _finished(target)
    speeds = itertools.cycle(range(50, 200))

    async def once() -> None:
        await target.read(f"/v1/jobs/{job}/audio?format=flac&rate=44100&speed={next(speeds) / 100}")

    await target.repeat(50, once)


@pool
async def answers(target: Target) -> None:
    """Request whole answers and never read them."""
    host, port = _address(target)
    numbers = itertools.count()

    async def once() -> None:
        body = json.dumps({**_tone(next(numbers) % 4, _LONG_S), "stream": False, "response_format": "pcm"}).encode()
        reader, writer = await asyncio.open_connection(host, port, limit=1024)
        try:
            writer.write(_head(target, "/v1/audio/speech", len(body)) + body)
            target.tally.answers[(await reader.readline()).decode(errors="replace").split(" ")[1]] += 1
            await asyncio.sleep(_UNREAD_S)  # the reader's small limit has paused the transport
        except IndexError:
            target.tally.answers["closed"] += 1
        finally:
            writer.transport.abort()

    await target.repeat(60, once)


@pool
async def webhooks(target: Target) -> None:
    """Name receivers that accept a connection and never answer, each under an address of its own."""
    async with hanging_receivers(_RECEIVERS) as urls:
        numbers, addresses = itertools.count(), itertools.cycle(urls)

        async def once() -> None:
            await target.post("/v1/jobs", {**_tone(next(numbers), 0.1), "webhook": {"url": next(addresses)}})

        await target.repeat(4, once)


@pool
async def places(target: Target) -> None:
    """Wait for jobs at the NATS API with as many callers as it takes."""

    def on_reply(message: Message) -> None:
        refused = message.head is not None and b"Antiphon-Kind: error" in message.head
        target.tally.answers["error" if refused else "2xx"] += 1

    async with open_bus(BusSettings(nats=target.nats), "flood", declare=False) as bus:
        numbers = itertools.count()
        with bus.connection.replies.inbox(on_reply) as inbox:
            while True:
                job = {**_WAITING, "input": _prompt(next(numbers), 100), "run_on": False}
                body = json.dumps(job).encode()
                headers = {"Authorization": f"Bearer {target.key}"}
                bus.connection.publish(bus.subjects.submit, body, reply=inbox, headers=headers)
                await asyncio.sleep(0.002)


@pool
async def connections(target: Target) -> None:
    """Open connections that send nothing, and bodies that stop in the middle."""
    host, port = _address(target)
    half = bytes(_STALLED_BYTES // 2)

    async def hold(first: bytes) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(first)
            target.tally.answers["connected"] += 1
            while await reader.read(1024):
                pass
        finally:
            writer.transport.abort()

    async def silent() -> None:
        await hold(b"")

    async def stalled() -> None:
        await hold(_head(target, "/v1/jobs:batch", _STALLED_BYTES) + half)

    await asyncio.gather(target.repeat(_SILENT, silent), target.repeat(_STALLED, stalled))


@pool
async def lists(target: Target) -> None:
    """List many jobs on many connections."""
    numbers = itertools.count()
    await asyncio.gather(*(target.post("/v1/jobs", _tone(next(numbers), 0.1)) for _ in range(200)))

    async def once() -> None:
        await target.read("/v1/jobs?limit=100")

    await target.repeat(20, once)


def _prompt(number: int, num_chars: int) -> str:
    return (f"{number} " + "la " * num_chars)[:num_chars].rstrip()


def _tone(number: int, seconds: float) -> dict[str, Any]:
    params = {"seconds": seconds, "device": "own"}
    return {"model": "tone", "input": f"flood {number}", "params": params, "run_on": True}


async def _finished(target: Target) -> str:
    """The id of a recording of `_LONG_S` seconds that is finished."""
    job = (await target.post("/v1/jobs", _tone(0, _LONG_S))).get("id", "")
    await target.read(f"/v1/jobs/{job}/audio?format=pcm")
    return str(job)


def _address(target: Target) -> tuple[str, int]:
    parts = urlsplit(target.url)
    return parts.hostname or "127.0.0.1", parts.port or 80


def _head(target: Target, path: str, length: int) -> bytes:
    headers = {**target.headers, "Host": "localhost", "Content-Type": "application/json", "Content-Length": str(length)}
    return "\r\n".join([f"POST {path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()), "", ""]).encode()
