"""One operation, attach: equal requests share one run, or are answered from its log (protocol rule 5).

A request without an id of its own gets one derived from all that its sound depends on, so that equal requests meet in
the log of that name, in flight or finished, at whichever gateway they arrive. There is no table of what is cached: the
logs are. What this process remembers is where it would look anyway.

An ended log is final, and one that did not end well must not answer for ever. So a derived id has generations,
`c<digest>`, `c<digest>-1`, `c<digest>-2`: each is created once, by compare-and-set, by whoever finds the one before it
spoilt or asks for a fresh run. The newest is the one that counts.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

import msgspec
from aiohttp import hdrs, web

from bus import wire
from bus.jobs.log import Logs
from bus.subjects import JobKey
from gateway.access.caller import SHARED_TENANT

#: How a request was answered: its own run, one that was under way, or the log of a finished one.
How = Literal["miss", "shared", "hit"]
#: A run that did not end well, or that a newer one has replaced.
Spoilt = Literal["spoilt"]

#: Of an answer that could have been shared: which of `How` it is.
CACHE_HEADER: Final = "Antiphon-Cache"
#: Of equal requests these promise equal sound (`Capabilities.determinism`).
_EQUAL: Final = frozenset({"bitwise", "same_build"})
_DERIVED: Final = re.compile(r"c[0-9a-f]{40}")
_OF_ANY_GENERATION: Final = re.compile(r"c[0-9a-f]{40}(-[0-9]+)?")
#: Derived ids whose newest generation is remembered here.
_MAX_REMEMBERED: Final = 20_000


def derived_id(job: wire.Job, card: wire.ModelCard) -> str:
    """The id that equal requests share; "" if this one cannot be answered by another's run.

    `job` is complete but for its id. The id holds no tenant: the subject does.
    """
    if card.determinism not in _EQUAL:
        return ""
    if job.expires_at is not None or job.first_audio_deadline_s is not None:
        return ""  # a run that somebody else began has other deadlines
    return _named(job)


def _named(job: wire.Job) -> str:
    return "c" + wire.digest(msgspec.structs.replace(job, tenant=""))[:40]


def is_derived(job_id: str) -> bool:
    return _DERIVED.fullmatch(job_id) is not None


def is_reserved(job_id: str) -> bool:
    """Whether it is of the form that equal requests share: a caller's job of that name would be heard instead."""
    return _OF_ANY_GENERATION.fullmatch(job_id) is not None


def refuses_reuse(request: web.Request) -> bool:
    """`Cache-Control: no-store`: a run of its own, that answers nobody else."""
    return "no-store" in _cache_control(request)


def wants_fresh(request: web.Request) -> bool:
    """`Cache-Control: no-cache`: a run that begins after this request, and answers later ones."""
    return "no-cache" in _cache_control(request)


def _cache_control(request: web.Request) -> set[str]:
    # A browser's hand-shake for a socket always says no-cache, whatever its page wants.
    if hdrs.CACHE_CONTROL not in request.headers or hdrs.UPGRADE in request.headers:
        return set()
    told = ",".join(request.headers.getall(hdrs.CACHE_CONTROL))
    return {directive.partition("=")[0].strip().lower() for directive in told.split(",")}


def of_all_tenants(job: wire.Job) -> wire.Job:
    """`job` as that of a cache which all tenants share."""
    return msgspec.structs.replace(job, tenant=SHARED_TENANT)


def of_generation(job: wire.Job, generation: int) -> wire.Job:
    """`job`, which has a derived id, with the id of that generation."""
    return msgspec.structs.replace(job, id=f"{job.id}-{generation}") if generation else job


class Flight:
    """A run that somebody here listens to, or asks for."""

    def __init__(self) -> None:
        #: How whoever comes aboard is answered; `unknown`: look yourself.
        self.settled: asyncio.Future[How | Spoilt | Literal["unknown"]] = asyncio.get_running_loop().create_future()
        self.listeners = 0


class Reuse:
    """What one gateway knows of derived ids. Losing it costs a few reads."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self._newest: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._flights: dict[JobKey, Flight] = {}
        self.counts: dict[How, int] = {"miss": 0, "shared": 0, "hit": 0}

    def told(self) -> dict[str, float | int | None]:
        """Answers so far by kind, and the share of them that needed no run of their own."""
        counts, total = self.counts, sum(self.counts.values())
        rate = None if not total else round(1 - counts["miss"] / total, 4)
        return {"misses": counts["miss"], "shared": counts["shared"], "hits": counts["hit"], "rate": rate}

    # Runs under way here

    @contextmanager
    def aboard(self, name: JobKey) -> Iterator[tuple[Flight, bool]]:
        """Be one of those here who listen to a run. True: the first of them, who settles it for the others.

        With the last it is forgotten.
        """
        flight, is_first = self._flights.get(name), False
        if flight is None:
            flight, is_first = Flight(), True
            self._flights[name] = flight
        flight.listeners += 1
        try:
            yield flight, is_first
        finally:
            flight.listeners -= 1
            if not flight.listeners:
                self.landed(name, flight)

    def landed(self, name: JobKey, flight: Flight) -> None:
        """The run has ended, or could not begin: nobody joins it any more."""
        if not flight.settled.done():
            flight.settled.set_result("unknown")
        if self._flights.get(name) is flight:
            del self._flights[name]

    # Generations

    def remembered(self, job: wire.Job) -> int | None:
        """The newest generation known here of a job with a derived id; None if it was never asked for here."""
        key = (job.tenant, job.id)
        if key in self._newest:
            self._newest.move_to_end(key)
        return self._newest.get(key)

    def remember(self, job: wire.Job, generation: int) -> None:
        self._newest[job.tenant, job.id] = generation
        if len(self._newest) > _MAX_REMEMBERED:
            self._newest.popitem(last=False)

    async def next_generation(self, job: wire.Job, after: int) -> int:
        """The first free generation above `after`, -1 for any, read from the leader.

        Generations are made one after another, so their end is found by doubling and halving. Where retention has
        purged old ones it may name one of those: it is as good as a new one.
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
        return await self._logs.birth(self._name(job, generation)) is not None

    async def is_equal(self, job: wire.Job, generation: int) -> bool | None:
        """False: that generation is somebody else's job. Whoever may publish jobs may name them as he likes.

        None: it was never born, or that is forgotten.
        """
        born = await self._logs.birth(self._name(job, generation))
        return None if born is None else _named(born[1].job) == job.id

    async def done(self, job: wire.Job, generation: int) -> wire.Done | None:
        """What that generation's end says, if it can be played back as it is."""
        tail = await self._logs.tail(self._name(job, generation))
        return wire.decode(wire.Done, tail.payload) if tail is not None and tail.kind == "done" else None

    def _name(self, job: wire.Job, generation: int) -> JobKey:
        return self._logs.subjects.job_key(job.tenant, of_generation(job, generation).id)
