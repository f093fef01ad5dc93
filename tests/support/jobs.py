"""Jobs put on the bus and their logs read back, without a gateway."""

import uuid
from dataclasses import dataclass, field
from typing import Any

from bus import wire
from bus.jobs.attach import Attachment
from bus.jobs.client import Bus
from bus.jobs.entry import Entry
from bus.jobs.submit import submit
from bus.subjects import JobKey


def tone_job(**params: Any) -> wire.Job:
    """A job for `tone`. Keyword arguments that are fields of a job are taken as such, the rest as its params."""
    fields = {
        name: params.pop(name) for name in list(params) if name in wire.Job.__struct_fields__ and name != "params"
    }
    base = {
        "id": f"j{uuid.uuid4().hex[:16]}",
        "input": "tone",
        "model": "tone",
        "version": "v1",
        "lane": "interactive",
        "tenant": "public",
    }
    return wire.Job(**{**base, **fields}, params=params)


@dataclass
class ReceivedLog:
    """A log as a listener received it."""

    entries: list[Entry] = field(default_factory=list)
    pcm: bytes = b""

    @property
    def end(self) -> Entry:
        return self.entries[-1]

    @property
    def starts(self) -> list[wire.Started]:
        return [entry.started for entry in self.entries if entry.started is not None]

    def add(self, batch: list[Entry]) -> None:
        self.entries += batch
        self.pcm += b"".join(entry.payload for entry in batch if entry.kind == "block")


class JobListener:
    """Listens to one job from before it is published."""

    def __init__(self, bus: Bus, job: wire.Job) -> None:
        self.bus = bus
        self.job = job
        self.name: JobKey = bus.subjects.job_key(job.tenant, job.id)
        self.received = ReceivedLog()
        self._attachment = Attachment(bus.connection, bus.logs, self.name, is_new=True)

    async def __aenter__(self) -> "JobListener":
        await self._attachment.__aenter__()
        self._batches = aiter(self._attachment)
        await submit(self.bus, self.job)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._batches.aclose()
        await self._attachment.__aexit__(None, None, None)

    async def until_bytes(self, num_bytes: int) -> None:
        """Listen until at least `num_bytes` of PCM have arrived."""
        while len(self.received.pcm) < num_bytes:
            self.received.add(await anext(self._batches))

    async def until_kind(self, kind: str) -> Entry:
        """Listen until an entry of `kind` has arrived."""
        while True:
            for entry in self.received.entries:
                if entry.kind == kind:
                    return entry
            self.received.add(await anext(self._batches))

    async def to_the_end(self) -> ReceivedLog:
        async for batch in self._batches:
            self.received.add(batch)
        return self.received


async def listen(bus: Bus, job: wire.Job) -> ReceivedLog:
    """Submit `job` and receive all of its log."""
    async with JobListener(bus, job) as listener:
        return await listener.to_the_end()
