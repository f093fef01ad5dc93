"""The result cache: identical requests share one run, or are answered from its log (protocol rule 5).

A request without an id of its own gets one derived from everything that its audio depends on. Identical requests
therefore meet in the log of that id, while it runs or once it has finished, whichever gateway they arrive at. No table
lists what is cached: the logs are the cache. This process remembers only where to look first.

An ended log is final, and one that failed must not answer forever. So a derived id has generations, `c<digest>`,
`c<digest>-1`, `c<digest>-2`: each is created once, by compare-and-set, by the gateway that finds the previous one
unusable or serves a request for a fresh run. The newest generation counts.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

import msgspec

from bus import wire
from bus.fleet.messages import ModelCard
from bus.jobs import ids
from bus.jobs.log import Logs
from bus.subjects import JobKey
from gateway.access.caller import SHARED_TENANT

#: How a request was answered: by its own run, by one in progress, or from the log of a finished one.
Outcome = Literal["miss", "shared", "hit"]
#: A run that did not end well, or that a newer generation has replaced.
Unusable = Literal["unusable"]

#: Engines with this determinism produce equal audio for equal requests (`Capabilities.determinism`).
_DETERMINISTIC: Final = frozenset({"bitwise", "same_build"})
#: Derived ids whose newest generation is remembered.
_MAX_REMEMBERED: Final = 20_000


def derived_id(job: wire.Job, card: ModelCard) -> str:
    """The id that identical requests share; "" if another request's run cannot answer this one.

    `job` is complete but for its id. The id does not depend on the tenant: the subject names the tenant.
    """
    if card.determinism not in _DETERMINISTIC:
        return ""
    if job.expires_at is not None or job.first_audio_deadline_s is not None:
        return ""  # a run that another request started has other deadlines
    return ids.derived_from(job)


def for_all_tenants(job: wire.Job) -> wire.Job:
    """`job` under the tenant of a cache that all tenants share."""
    return msgspec.structs.replace(job, tenant=SHARED_TENANT)


def with_generation(job: wire.Job, generation: int) -> wire.Job:
    """`job`, which has a derived id, with the id of that generation; 0 is the derived id itself."""
    return msgspec.structs.replace(job, id=f"{job.id}-{generation}") if generation else job


class InFlight:
    """A run that at least one request of this process attaches to or starts."""

    def __init__(self) -> None:
        #: How requests that join are answered; `unknown`: each must look for itself.
        self.settled: asyncio.Future[Outcome | Unusable | Literal["unknown"]] = (
            asyncio.get_running_loop().create_future()
        )
        self.num_listeners = 0


class ResultCache:
    """One gateway's memory of derived ids. Losing it costs a few reads."""

    def __init__(self, logs: Logs, *, is_shared: bool = False) -> None:
        """`is_shared`: tenants share results; each can then detect which requests others made before."""
        self._logs = logs
        self.is_shared = is_shared
        self._newest: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._in_flight: dict[JobKey, InFlight] = {}
        #: Requests answered, by outcome.
        self.counts: dict[Outcome, int] = {"miss": 0, "shared": 0, "hit": 0}

    # Runs in flight in this process

    @contextmanager
    def join(self, key: JobKey) -> Iterator[tuple[InFlight, bool]]:
        """Join the run of `key` for the length of the block; True for the first request, which settles it for others.

        The run is forgotten when its last request leaves.
        """
        run, is_first = self._in_flight.get(key), False
        if run is None:
            run, is_first = InFlight(), True
            self._in_flight[key] = run
        run.num_listeners += 1
        try:
            yield run, is_first
        finally:
            run.num_listeners -= 1
            if not run.num_listeners:
                self.finished(key, run)

    def finished(self, key: JobKey, run: InFlight) -> None:
        """The run has ended, or could not start: no further request joins it."""
        if not run.settled.done():
            run.settled.set_result("unknown")
        if self._in_flight.get(key) is run:
            del self._in_flight[key]

    # Generations

    def remembered(self, job: wire.Job) -> int | None:
        """The newest generation of a derived id that this process has seen; None if it has seen none."""
        key = (job.tenant, job.id)
        if key in self._newest:
            self._newest.move_to_end(key)
        return self._newest.get(key)

    def remember(self, job: wire.Job, generation: int) -> None:
        """Remember `generation` as the newest of `job`'s derived id; the least recently used id is dropped."""
        self._newest[job.tenant, job.id] = generation
        if len(self._newest) > _MAX_REMEMBERED:
            self._newest.popitem(last=False)

    async def next_generation(self, job: wire.Job, after: int) -> int:
        """The first free generation above `after`, -1 for any; reads from the leader. Raises Unreachable.

        Generations are created in order, so their end is found by doubling and bisection. Where retention has purged
        old ones this may return one of those: it is as good as a new one.
        """
        low, step = after, 1
        while await self.exists(job, low + step):
            low, step = low + step, step * 2
        high = low + step
        while high - low > 1:
            middle = (low + high) // 2
            if await self.exists(job, middle):
                low = middle
            else:
                high = middle
        return high

    async def exists(self, job: wire.Job, generation: int) -> bool:
        """Whether that generation was accepted. Raises Unreachable."""
        return await self._logs.birth(self._key(job, generation)) is not None

    async def is_identical(self, job: wire.Job, generation: int) -> bool | None:
        """False: another job has that id, since a bus user may publish a job under any id. None: there is no birth."""
        born = await self._logs.birth(self._key(job, generation))
        return None if born is None else ids.derived_from(born[1].job) == job.id

    async def done(self, job: wire.Job, generation: int) -> wire.Done | None:
        """The `done` entry of that generation; None unless it ended so."""
        tail = await self._logs.tail(self._key(job, generation))
        return wire.decode(wire.Done, tail.payload) if tail is not None and tail.kind == "done" else None

    def _key(self, job: wire.Job, generation: int) -> JobKey:
        return self._logs.subjects.job_key(job.tenant, with_generation(job, generation).id)
