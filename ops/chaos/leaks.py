"""What a stack at rest holds: descriptors, memory, subscriptions, consumers; to be compared before and after."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp

from ops.chaos.proc import members
from ops.chaos.stack import Stack

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
#: Descriptors that a process may hold more than before without having lost any: a resolver, a log that was rotated.
_SLACK_DESCRIPTORS = 2


@dataclass(frozen=True, slots=True)
class Held:
    """Of one process and whatever it has started."""

    descriptors: int
    rss_bytes: int
    processes: int


#: Fields of Rest that belong to no process of their own.
_COUNTS = ("subscriptions", "connections", "consumers", "unacknowledged", "queued")


@dataclass(frozen=True, slots=True)
class Rest:
    processes: Mapping[str, Held]
    #: Of all clients of the nats-server.
    subscriptions: int
    connections: int
    consumers: int
    #: Deliveries that nobody has acknowledged, and messages in JOBS.
    unacknowledged: int
    queued: int

    @property
    def counts(self) -> dict[str, int]:
        return {what: getattr(self, what) for what in _COUNTS}

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


async def look(stack: Stack) -> Rest:
    """Raises OpsError or aiohttp.ClientError while the stack is not whole."""
    bases = [node.monitoring for node in stack.nodes]
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        served = [await _json(session, f"{base}/connz?subs=1&limit=4096") for base in bases]
        # Every member of a cluster has a copy of everything: one of them tells it all.
        jetstream = await _json(session, f"{bases[0]}/jsz?consumers=1&streams=1")
    consumers, queued = [], 0
    for account in jetstream.get("account_details", []):
        for stream in account.get("stream_detail", []):
            consumers += stream.get("consumer_detail", [])
            if stream["name"].endswith("_JOBS"):
                queued += stream["state"]["messages"]
    held = {process.name: await asyncio.to_thread(held_by, process.pid) for process in stack.processes if process.pid}
    return Rest(
        processes=held,
        subscriptions=sum(len(each.get("subscriptions_list", [])) for told in served for each in told["connections"]),
        connections=sum(told["num_connections"] for told in served),
        consumers=len(consumers),
        unacknowledged=sum(each.get("num_ack_pending", 0) for each in consumers),
        queued=queued,
    )


async def _json(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(url) as response:
        response.raise_for_status()
        told: dict[str, Any] = await response.json(content_type=None)
        return told


def held_by(pid: int) -> Held:
    """Of the process group that `pid` heads; what has gone meanwhile counts nothing."""
    descriptors, pages, ids = 0, 0, members(pid)
    for each in ids:
        try:
            descriptors += len(list(Path(f"/proc/{each}/fd").iterdir()))
            pages += int(Path(f"/proc/{each}/statm").read_text().split()[1])
        except OSError:
            continue
    return Held(descriptors, pages * _PAGE_BYTES, len(ids))


def leaked(before: Rest, after: Rest) -> list[str]:
    """What is held after that was not held before, in words."""
    found = [
        f"{name}: {now.descriptors} descriptors, {then.descriptors} before"
        for name, now in after.processes.items()
        if (then := before.processes.get(name)) and now.descriptors > then.descriptors + _SLACK_DESCRIPTORS
    ]
    was = before.counts
    return [*found, *(f"{now} {what}, {was[what]} before" for what, now in after.counts.items() if now > was[what])]
