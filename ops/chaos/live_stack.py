"""A running stack with everything that a run needs to load it and to watch it."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from bus.jobs.client import Bus, open_bus
from ops.chaos import samples
from ops.chaos.clients import record_reference
from ops.chaos.fleet_monitor import FleetMonitor
from ops.chaos.requests import PIECES, Request
from ops.chaos.stack import Stack, StackSpec, running
from ops.errors import OpsError

#: A stack that does not serve every model after this long fails the run.
_READY_S: Final = 120.0
_POLL_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class LiveStack:
    """A stack that serves, a connection to its bus, and the reference audio by the key of its piece."""

    stack: Stack
    bus: Bus
    monitor: FleetMonitor
    session: aiohttp.ClientSession
    references: Mapping[str, samples.Reference]


@asynccontextmanager
async def ready(spec: StackSpec, folder: Path) -> AsyncIterator[LiveStack]:
    """Start a stack and record the references. Raises OpsError if it does not come up in time."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with (
        running(folder, spec) as stack,
        aiohttp.ClientSession(connector=connector) as session,
        open_bus(stack.settings, "chaos") as bus,
    ):
        monitor = FleetMonitor(bus)
        await _until_serving(stack, spec, session)
        references = {"tone": samples.tone()}
        for model in spec.models:
            for text, params in PIECES.get(model, ()):
                request = Request(0, "listen", model, text, params)
                references[request.piece] = await record_reference(session, stack.urls[0], request)
        print_status(f"{len(stack.processes)} processes are ready, {len(references) - 1} reference recordings made")
        yield LiveStack(stack, bus, monitor, session, references)


async def _until_serving(stack: Stack, spec: StackSpec, session: aiohttp.ClientSession) -> None:
    deadline, missing = time.monotonic() + _READY_S, "anything"
    while time.monotonic() < deadline:
        try:
            missing = ", ".join([lack for url in stack.urls if (lack := await _missing(session, url, spec))])
        except (aiohttp.ClientError, TimeoutError) as error:
            missing = str(error) or type(error).__name__
        if not missing:
            return
        await asyncio.sleep(_POLL_S)
    raise OpsError(f"the stack is not ready after {_READY_S:g} s: {missing}")


async def _missing(session: aiohttp.ClientSession, url: str, spec: StackSpec) -> str:
    """The reason why the gateway at `url` cannot serve every model yet; "" if it can."""
    async with session.get(f"{url}/readyz") as response:
        if response.status != 200:
            return await response.text()
    async with session.get(f"{url}/v1/fleet") as response:
        workers = (await response.json())["workers"]
    if len(workers) < spec.workers or any(worker["state"] != "ready" for worker in workers):
        return f"{len(workers)} workers at {url}"
    async with session.get(f"{url}/v1/models") as response:
        models = {card["id"] for card in (await response.json())["data"]}
    return ", ".join(set(spec.models) - models)


def print_status(text: str) -> None:
    """Print a line for the person who runs this, on stderr: stdout is for the report."""
    print(f"antiphon: {text}", file=sys.stderr, flush=True)
