"""One run: start a stack, load it, inject the faults, let it come to rest, and account for every job."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bus import wire
from ops.chaos import readback, samples
from ops.chaos.clients import Clients
from ops.chaos.flooding import TENANT, Flooder
from ops.chaos.injector import Scene, inject
from ops.chaos.ledger import ClientRecord, Damage, judge_client, judge_log, surplus
from ops.chaos.live_stack import LiveStack, print_status, ready
from ops.chaos.plan import schedule
from ops.chaos.report import Report
from ops.chaos.requests import Request, Requests
from ops.chaos.settling import at_rest, drained, leaks_since
from ops.chaos.stack import Stack, StackSpec
from ops.chaos.takeover import takeovers

#: For one client with one request: beyond the longest audio, a queue and a few outages.
PATIENCE_S: Final = 180.0
#: Between the start of the stack and the snapshot that later ones are compared with.
START_SETTLE_S: Final = 2.0
_PRINT_EVERY: Final = 25


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The parameters of one run."""

    seed: int
    num_faults: int
    duration_s: float
    kinds: tuple[str, ...]
    #: Clients at the same time.
    streams: int
    #: Between the end of the last job and the search for leaks.
    settle_s: float
    spec: StackSpec


async def chaos(plan: RunPlan, folder: Path) -> Report:
    """Run `plan` on a stack whose logs and store are in `folder`. Raises OpsError if the stack does not come up."""
    faults = schedule(plan.seed, plan.num_faults, plan.duration_s, plan.spec.ack_wait_s, plan.kinds)
    async with ready(plan.spec, folder) as live:
        before = await at_rest(live, START_SETTLE_S)
        clients = clients_of(live, f"chaos-{plan.seed}")
        requests = Requests(plan.seed, plan.spec.models)

        async def as_client(behaviour: str) -> None:
            await clients.perform(requests.next(behaviour))

        scene = Scene(live.stack, live.bus, live.monitor, as_client, Flooder(live).flood)
        began, over = time.monotonic(), asyncio.Event()
        print_status(f"{len(faults)} faults in {plan.duration_s:.0f} s, {plan.streams} clients, seed {plan.seed}")
        async with asyncio.TaskGroup() as group:
            for _ in range(plan.streams):
                group.create_task(load(clients, requests, over))
            await inject(scene, faults, _progress(len(faults)))
            await asyncio.sleep(max(0.0, began + plan.duration_s - time.monotonic()))
            over.set()
        minutes = (time.monotonic() - began) / 60
        print_status("the last client has disconnected")
        await drained(live)
        leaked = await leaks_since(live, before, plan.settle_s)
        report = await judge(live, clients, scene, Report(plan.seed, minutes))
        report.leaks = leaked
        report.slots_leaked = live.monitor.held()
    report.crashes = crashes(live.stack)
    return report


def clients_of(live: LiveStack, run: str) -> Clients:
    """Clients of all gateways of a stack. `run` prefixes their idempotency keys."""
    return Clients(live.session, live.stack.urls, run, live.references, PATIENCE_S)


async def load(clients: Clients, requests: Requests, over: asyncio.Event) -> None:
    """Send one request after the other until `over`."""
    while not over.is_set():
        await clients.perform(requests.next())


async def judge(live: LiveStack, clients: Clients, scene: Scene | None, report: Report) -> Report:
    """Read every log back, compare it with its request and with the audio that its client received; fill `report`."""
    by_job = {record.job: record for record in clients.records}

    def reference_of(job: wire.Job) -> samples.Reference | None:
        record = by_job.get(job.id)
        return live.references.get(record.request.piece if record else Request(0, "", job.model, job.input).piece)

    logs = await readback.logs(live.bus, reference_of)
    damages: list[Damage] = []
    for job_id, log in logs.items():
        record = by_job.get(job_id)
        damages += judge_log(job_id, log.entries, record.request if record else None, reference_of(log.job))
    reference_jobs = {reference.job for reference in live.references.values()}
    # A flood keeps no record of its jobs: each must end and be whole, and any number of them is right.
    flooded = {job_id for job_id, log in logs.items() if log.job.tenant == TENANT}
    damages += surplus(logs, reference_jobs | by_job.keys() | flooded)
    for each in clients.records:
        log_ = logs.get(each.job)
        damages += judge_client(each, log_.end if log_ else "", clients.reference(each.request))
    report.requests = len(clients.records)
    report.jobs = len(logs.keys() - reference_jobs)
    report.flooded = len(flooded)
    report.damages = damages
    ends = Counter(log.end or "no end" for job, log in logs.items() if job not in reference_jobs)
    report.ends = dict(ends.most_common())
    report.audio_s = sum(_audio_s(each, clients) for each in clients.records)
    report.resumed = sum(each.resumed for each in clients.records)
    report.longest_silence_s = clients.longest_silence_s
    if scene is not None:
        report.injections = scene.injections
        report.not_injected = scene.not_injected
        report.takeovers = takeovers(scene.injections, clients.records, logs, time.time() - time.monotonic())
    return report


def _audio_s(record: ClientRecord, clients: Clients) -> float:
    reference = clients.reference(record.request)
    return record.num_bytes / reference.frame_bytes / reference.rate_hz if reference is not None else 0.0


def crashes(stack: Stack) -> Sequence[str]:
    """One line for each process that exited by itself, and for each child that outlived its parent."""
    ended = [f"{process.name} exited {process.crashes}" for process in stack.processes if process.crashes]
    return [
        *ended,
        *(f"{process.name} left behind: {command[:80]}" for process in stack.processes for command in process.orphans),
    ]


def _progress(total: int) -> Callable[[int], None]:
    began = time.monotonic()

    def on_fault(index: int) -> None:
        if index and index % _PRINT_EVERY == 0:
            print_status(f"{index} of {total} faults after {time.monotonic() - began:.0f} s")

    return on_fault
