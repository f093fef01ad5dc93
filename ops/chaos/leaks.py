"""Resources that a stack holds at rest: descriptors, memory, subscriptions, consumers; compared before and after."""

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
#: Descriptors that a process may hold more than before without a leak: a resolver, a log that was rotated.
_SLACK_DESCRIPTORS = 2


@dataclass(frozen=True, slots=True)
class Usage:
    """The resources of one process and of all processes that it started."""

    descriptors: int
    rss_bytes: int
    processes: int


#: Fields of Snapshot that are compared before and after.
_COUNTS = ("subscriptions", "connections", "consumers", "unacknowledged", "queued")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The resources of a stack at one moment."""

    #: By name of the process.
    processes: Mapping[str, Usage]
    #: Of all clients of all nats-servers.
    subscriptions: int
    connections: int
    consumers: int
    #: Deliveries without an acknowledgement, over all consumers.
    unacknowledged: int
    #: Messages in JOBS.
    queued: int

    @property
    def counts(self) -> dict[str, int]:
        """The counts that belong to the servers, by name."""
        return {name: getattr(self, name) for name in _COUNTS}

    def as_json(self) -> dict[str, Any]:
        """The snapshot as plain values."""
        return asdict(self)


async def snapshot(stack: Stack) -> Snapshot:
    """Measure `stack` now. Raises OpsError or aiohttp.ClientError while one of its nats-servers is down."""
    bases = [node.monitoring for node in stack.nodes]
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        connections = [await _json(session, f"{base}/connz?subs=1&limit=4096") for base in bases]
        # Every member of a cluster has a copy of every stream: one of them is enough.
        jetstream = await _json(session, f"{bases[0]}/jsz?consumers=1&streams=1")
    consumers, queued = [], 0
    for account in jetstream.get("account_details", []):
        for stream in account.get("stream_detail", []):
            consumers += stream.get("consumer_detail", [])
            if stream["name"].endswith("_JOBS"):
                queued += stream["state"]["messages"]
    usage = {process.name: await asyncio.to_thread(usage_of, process.pid) for process in stack.processes if process.pid}
    clients = [client for each in connections for client in each["connections"]]
    return Snapshot(
        processes=usage,
        subscriptions=sum(len(client.get("subscriptions_list", [])) for client in clients),
        connections=sum(each["num_connections"] for each in connections),
        consumers=len(consumers),
        unacknowledged=sum(consumer.get("num_ack_pending", 0) for consumer in consumers),
        queued=queued,
    )


async def _json(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(url) as response:
        response.raise_for_status()
        body: dict[str, Any] = await response.json(content_type=None)
        return body


def usage_of(pid: int) -> Usage:
    """The resources of the process group that `pid` leads; a process that exits meanwhile counts as none."""
    descriptors, pages, ids = 0, 0, members(pid)
    for each in ids:
        try:
            descriptors += len(list(Path(f"/proc/{each}/fd").iterdir()))
            pages += int(Path(f"/proc/{each}/statm").read_text().split()[1])
        except OSError:
            continue
    return Usage(descriptors, pages * _PAGE_BYTES, len(ids))


def leaked(before: Snapshot, after: Snapshot) -> list[str]:
    """One line for each resource of which `after` holds more than `before`."""
    found = [
        f"{name}: {now.descriptors} descriptors, {then.descriptors} before"
        for name, now in after.processes.items()
        if (then := before.processes.get(name)) and now.descriptors > then.descriptors + _SLACK_DESCRIPTORS
    ]
    was = before.counts
    return [*found, *(f"{now} {name}, {was[name]} before" for name, now in after.counts.items() if now > was[name])]
