"""One run: start a stack, load it, hurt it, let it come to rest, and ask what became of every job."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from bus import wire
from bus.jobs.client import Bus, open_bus
from ops.chaos import leaks, readback, samples
from ops.chaos.clients import Clients, record
from ops.chaos.fleet_monitor import FleetMonitor
from ops.chaos.injector import Scene, inject
from ops.chaos.ledger import Damage, Heard, judge_client, judge_log, surplus
from ops.chaos.orders import PIECES, Order, Orders
from ops.chaos.plan import schedule
from ops.chaos.report import Report
from ops.chaos.stack import Size, Stack, running
from ops.chaos.takeover import takeovers
from ops.errors import OpsError

_READY_S: Final = 120.0
#: Of one client with one order; beyond the longest audio, a queue and a few outages.
_PATIENCE_S: Final = 180.0
#: For all jobs to end after the last client has gone.
_DRAIN_S: Final = 90.0
_LOOK_EVERY_S: Final = 0.2
#: So many looks in a row, so far apart, must tell of equal counts: who starts anew or asks again lacks something.
_STEADY_LOOKS, _STEADY_EVERY_S, _STEADY_S = 3, 1.0, 30.0
#: What is held for longer than this after the drain, and after `settle_s`, is leaked: a gateway listens for 30 s to a
#: job that it took away.
_LEAVE_S: Final = 60.0
_SAY_EVERY: Final = 25


@dataclass(frozen=True, slots=True)
class Course:
    """What is to be done."""

    seed: int
    num_faults: int
    duration_s: float
    kinds: tuple[str, ...]
    #: Clients that are always there.
    streams: int
    #: Between the end of the last job and the look for leaks.
    settle_s: float
    size: Size


@dataclass(frozen=True, slots=True)
class Ground:
    """A stack that is ready, and what is needed to work with it."""

    stack: Stack
    bus: Bus
    monitor: FleetMonitor
    session: aiohttp.ClientSession
    truths: Mapping[str, samples.Truth]


async def chaos(course: Course, folder: Path) -> Report:
    """Raises OpsError if the stack does not come up."""
    faults = schedule(course.seed, course.num_faults, course.duration_s, course.size.ack_wait_s, course.kinds)
    async with ready(course.size, folder) as ground:
        before = await at_rest(ground, 2.0)
        clients = Clients(ground.session, ground.stack.urls, f"chaos-{course.seed}", ground.truths, _PATIENCE_S)
        orders = Orders(course.seed, course.size.models)
        scene = Scene(ground.stack, ground.bus, ground.monitor, lambda manner: clients.perform(orders.next(manner)))
        began, over = time.monotonic(), asyncio.Event()
        say(f"{len(faults)} faults in {course.duration_s:.0f} s, {course.streams} clients, seed {course.seed}")
        async with asyncio.TaskGroup() as group:
            for _ in range(course.streams):
                group.create_task(load(clients, orders, over))
            await inject(scene, faults, _progress(len(faults)))
            await asyncio.sleep(max(0.0, began + course.duration_s - time.monotonic()))
            over.set()
        minutes = (time.monotonic() - began) / 60
        say("the last client has gone")
        await drained(ground)
        leaked = await leaks_since(ground, before, course.settle_s)
        report = await judge(ground, clients, scene, Report(course.seed, minutes))
        report.leaks = leaked
        report.slots_leaked = ground.monitor.held()
    report.crashes = crashes(ground.stack)
    return report


@asynccontextmanager
async def ready(size: Size, folder: Path) -> AsyncIterator[Ground]:
    """A stack that serves every model, with the reference recordings made. Raises OpsError."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with (
        running(folder, size) as stack,
        aiohttp.ClientSession(connector=connector) as session,
        open_bus(stack.settings, "chaos") as bus,
    ):
        monitor = FleetMonitor(bus)
        await _serving(stack, size, session)
        truths = {"tone": samples.tone()}
        for model in size.models:
            for text, params in PIECES.get(model, ()):
                order = Order(0, "listen", model, text, params)
                truths[order.piece] = await record(session, stack.urls[0], order)
        say(f"{len(stack.processes)} processes are ready, {len(truths) - 1} reference recordings made")
        yield Ground(stack, bus, monitor, session, truths)


async def _serving(stack: Stack, size: Size, session: aiohttp.ClientSession) -> None:
    deadline, missing = time.monotonic() + _READY_S, "anything"
    while time.monotonic() < deadline:
        try:
            missing = ", ".join([lack for url in stack.urls if (lack := await _lack(session, url, size))])
        except (aiohttp.ClientError, TimeoutError) as error:
            missing = str(error) or type(error).__name__
        if not missing:
            return
        await asyncio.sleep(_LOOK_EVERY_S)
    raise OpsError(f"the stack is not ready after {_READY_S:g} s: {missing}")


async def _lack(session: aiohttp.ClientSession, url: str, size: Size) -> str:
    async with session.get(f"{url}/readyz") as answer:
        if answer.status != 200:
            return await answer.text()
    async with session.get(f"{url}/v1/fleet") as answer:
        workers = (await answer.json())["workers"]
    if len(workers) < size.workers or any(worker["state"] != "ready" for worker in workers):
        return f"{len(workers)} workers at {url}"
    async with session.get(f"{url}/v1/models") as answer:
        models = {card["id"] for card in (await answer.json())["data"]}
    return ", ".join(set(size.models) - models)


async def load(clients: Clients, orders: Orders, over: asyncio.Event) -> None:
    """One client after the other until `over`."""
    while not over.is_set():
        await clients.perform(orders.next())


async def drained(ground: Ground) -> None:
    """Until no message waits in JOBS and no worker holds a job, or patience ends: the ledger tells which are left."""
    deadline = time.monotonic() + _DRAIN_S
    while time.monotonic() < deadline:
        info = await ground.bus.js.info(ground.bus.subjects.jobs_stream)
        if not info["state"]["messages"] and not ground.monitor.held():
            return
        await asyncio.sleep(_LOOK_EVERY_S)
    say(f"jobs are left after {_DRAIN_S:g} s")


async def at_rest(ground: Ground, settle_s: float) -> leaks.Rest:
    """What is held once everybody is back, `settle_s` have passed, and the counts stay as they are."""
    deadline = time.monotonic() + _READY_S
    while not all(ground.monitor.is_warm(worker) for worker in ground.stack.workers):
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(_LOOK_EVERY_S)
    await asyncio.sleep(settle_s)
    return await steady(lambda: leaks.look(ground.stack))


async def steady(look: Callable[[], Awaitable[leaks.Rest]]) -> leaks.Rest:
    """The last of some looks in a row with equal counts; after half a minute any.

    A look that fails is made again, for as long: on a busy machine a nats-server may be late once. Then it raises.
    """
    deadline, alike, last = time.monotonic() + _STEADY_S, 0, None
    while True:
        try:
            rest = await look()
        except (OpsError, aiohttp.ClientError, TimeoutError):
            if time.monotonic() > deadline:
                raise
        else:
            alike = alike + 1 if last is not None and rest.counts == last.counts else 1
            last = rest
            if alike == _STEADY_LOOKS or time.monotonic() > deadline:
                return rest
        await asyncio.sleep(_STEADY_EVERY_S)


async def leaks_since(ground: Ground, before: leaks.Rest, settle_s: float) -> list[str]:
    """What is held at rest that was not before, and is not let go of within `_LEAVE_S` either."""
    deadline = time.monotonic() + max(_LEAVE_S, settle_s)
    leaked = leaks.leaked(before, await at_rest(ground, settle_s))
    if leaked:
        say(f"held for longer than {settle_s:g} s: {'; '.join(leaked)}")
    while leaked and time.monotonic() < deadline:
        leaked = leaks.leaked(before, await at_rest(ground, _STEADY_EVERY_S))
    return leaked


async def judge(ground: Ground, clients: Clients, scene: Scene | None, report: Report) -> Report:
    """Read every log back and compare it with what was asked and what was heard."""
    by_job = {heard.job: heard for heard in clients.heard}

    def truth_of(job: wire.Job) -> samples.Truth | None:
        heard = by_job.get(job.id)
        return ground.truths.get(heard.order.piece if heard else Order(0, "", job.model, job.input).piece)

    logs = await readback.logs(ground.bus, truth_of)
    damages: list[Damage] = []
    for job_id, log in logs.items():
        heard = by_job.get(job_id)
        damages += judge_log(job_id, log.lines, heard.order if heard else None, truth_of(log.job))
    references = {truth.job for truth in ground.truths.values()}
    damages += surplus(logs, references | by_job.keys())
    for heard in clients.heard:
        log_ = logs.get(heard.job)
        damages += judge_client(heard, log_.end if log_ else "", clients.truth(heard.order))
    report.orders, report.jobs, report.damages = len(clients.heard), len(logs.keys() - references), damages
    ends = Counter(log.end or "no end" for job, log in logs.items() if job not in references)
    report.ends = dict(ends.most_common())
    report.audio_s = sum(_seconds(heard, clients) for heard in clients.heard)
    report.resumed = sum(heard.resumed for heard in clients.heard)
    report.longest_silence_s = clients.longest_silence_s
    if scene is not None:
        report.injections = scene.injections
        report.not_injected = scene.not_injected
        report.takeovers = takeovers(scene.injections, clients.heard, logs, time.time() - time.monotonic())
    return report


def _seconds(heard: Heard, clients: Clients) -> float:
    truth = clients.truth(heard.order)
    return heard.num_bytes / truth.frame_bytes / truth.rate_hz if truth is not None else 0.0


def crashes(stack: Stack) -> Sequence[str]:
    """Ends that nobody here caused, and children that outlived their parents."""
    ended = [f"{process.name} exited {process.crashes}" for process in stack.processes if process.crashes]
    return [
        *ended,
        *(f"{process.name} left behind: {command[:80]}" for process in stack.processes for command in process.orphans),
    ]


def _progress(total: int) -> Callable[[int], None]:
    began = time.monotonic()

    def tell(number: int) -> None:
        if number and number % _SAY_EVERY == 0:
            say(f"{number} of {total} faults after {time.monotonic() - began:.0f} s")

    return tell


def say(text: str) -> None:
    """Progress, for people; stdout is the report's."""
    print(f"antiphon: {text}", file=sys.stderr, flush=True)
