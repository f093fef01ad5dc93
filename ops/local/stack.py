"""The one-machine stack: a private nats-server, one gateway and the workers, supervised in the foreground."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from bus.subjects import JobKey
from bus.telemetry.logging import logger
from ops.local.disk import DiskMonitor
from ops.local.node import LockedNode, locked
from ops.local.plan import Plan, plan
from ops.local.readiness import Failed, lost_jobs, nats_ready, stack_ready
from ops.local.store import StoreDamaged, move_aside
from ops.local.supervisor import Child, Launch, Spec, stop_all, supervised
from ops.local.system import called
from ops.settings import UpSettings

log = logger(__name__)

#: A child may take this much longer than its drain before it is killed.
_GRACE_S = 5.0
#: Wait for a nats-server on the same store that is exiting because its `antiphon up` was killed.
LOCK_PATIENCE_S = 5.0


class Stack(msgspec.Struct):
    """The supervised processes."""

    nats: list[Child]
    gateways: list[Child]
    #: By worker id.
    workers: dict[str, Child]
    #: Jobs that the store had lost, and that were ended.
    lost: list[JobKey] = []
    #: Models that could not be loaded before the others were ready.
    failed: Failed = {}

    def pids(self) -> dict[str, object]:
        """Process ids as the line of `--json` has them."""
        servers = [child.pid for child in self.nats]
        return {
            "nats": servers if len(servers) > 1 else servers[0],
            "gateway": [child.pid for child in self.gateways],
            "workers": {name: child.pid for name, child in self.workers.items()},
        }


Announce = Callable[[Plan, Stack], None]


def serve(config: str | None, *, as_json: bool) -> Callable[[UpSettings, asyncio.Event], Awaitable[None]]:
    """The function that `ops.local.process.run` runs for `antiphon up`."""

    async def run(settings: UpSettings, stop: asyncio.Event) -> None:
        planned = plan(settings, config)
        if not as_json:
            workers = "a worker" if settings.workers == 1 else f"{settings.workers} workers"
            print(f"Starting nats-server, a gateway and {workers} takes some seconds", flush=True)
        await up(planned, stop, announce_json if as_json else announce_human)

    return run


async def up(plan: Plan, stop: asyncio.Event, announce: Announce) -> None:
    """Run the stack until `stop`, calling `announce` once a request would succeed. Leaves no process behind.

    Raises OpsError if the store is in use, NATS does not start, or a child exits with a usage error before it is ready;
    StoreDamaged if it cannot recover a stream, unless the plan is to recover: then that stream is moved aside.
    """
    has_store = plan.has_store
    with locked(plan.nodes, LOCK_PATIENCE_S) as nodes:
        while True:
            try:
                await _run(plan, nodes, stop, announce, has_store=has_store)
            except ExceptionGroup as group:
                error = _first(group)
                if not (isinstance(error, StoreDamaged) and plan.settings.recover):
                    raise error from None
                move_aside(error, plan.nodes[0].folder)
            else:
                return


async def _run(
    plan: Plan, nodes: list[LockedNode], stop: asyncio.Event, announce: Announce, *, has_store: bool
) -> None:
    """Run the stack once, until `stop`."""
    async with supervised(_to_stderr) as start:
        servers = {start(Spec(own.node.name, own.launch, patience_s=10.0)): own.node for own in nodes}
        try:
            is_ready = await nats_ready(servers, stop)
        except StoreDamaged:
            await stop_all(list(servers))
            raise
        if not is_ready:
            await stop_all(list(servers))
            return
        lost = await lost_jobs(plan) if has_store else []
        stack = _start(plan, start, list(servers))
        stack.lost = lost
        await _until_stopped(plan, stack, DiskMonitor(servers), stop, announce)


def _start(plan: Plan, start: Callable[[Spec], Child], servers: list[Child]) -> Stack:
    """Start the other processes at once; NATS is ready."""
    patience_s = plan.settings.drain_s + _GRACE_S
    return Stack(
        nats=servers,
        gateways=[start(Spec("gateway", _launch(plan.gateway_command()), patience_s))],
        workers={
            name: start(Spec(f"worker {name}", _launch(plan.worker_command(name)), patience_s)) for name in plan.workers
        },
    )


async def _until_stopped(plan: Plan, stack: Stack, disks: DiskMonitor, stop: asyncio.Event, announce: Announce) -> None:
    async with asyncio.TaskGroup() as group:
        watches = (
            group.create_task(_announce(plan, stack, announce), name="readiness"),
            group.create_task(disks.run(), name="disks"),
        )
        await stop.wait()
        for watch in watches:
            watch.cancel()
    log.info("stack.stopping")
    # Workers first: while they finish their jobs, the gateway still streams the audio to the clients.
    await stop_all(list(stack.workers.values()))
    await stop_all(stack.gateways)
    await stop_all(stack.nats)


async def _announce(plan: Plan, stack: Stack, announce: Announce) -> None:
    stack.failed = await stack_ready(plan, [*stack.gateways, *stack.workers.values()])
    announce(plan, stack)


def _first(error: Exception) -> Exception:
    """The first error inside nested groups: each task group wraps the error of its body once more."""
    return _first(error.exceptions[0]) if isinstance(error, ExceptionGroup) else error


def _launch(argv: list[str]) -> Callable[[], Launch]:
    return lambda: Launch(argv=argv)


def _to_stderr(lines: bytes) -> None:
    sys.stderr.buffer.write(lines)
    sys.stderr.buffer.flush()


def announce_json(plan: Plan, stack: Stack) -> None:
    """Print the line of JSON that scripts wait for."""
    line = {"ready": True, "http": plan.http, "nats": plan.nats, "pids": stack.pids()}
    if stack.lost:
        line["lost"] = [{"tenant": key.tenant, "id": key.job} for key in stack.lost]
    if stack.failed:
        line["failed"] = stack.failed
    print(json.dumps(line, separators=(",", ":")), flush=True)


def announce_human(plan: Plan, stack: Stack) -> None:
    """Print the address, three things to try, and how to stop."""
    for job in stack.lost:
        print(f"lost: {job.tenant}/{job.job}; it has ended as failed")
    for worker, reasons in stack.failed.items():
        for model, why in reasons.items():
            print(f"not served by {worker}: {model}: {why}")
    served = [model for model in plan.models if not all(model in stack.failed.get(each, {}) for each in plan.workers)]
    print(welcome(plan.http, plan.nats, served, require_keys=plan.settings.require_keys), flush=True)


def welcome(http: str, nats: str, models: Sequence[str], *, require_keys: bool) -> str:
    """The text that a person reads once the stack at `http` is ready. `models`: those that it serves, at least one."""
    commands = {"speech": "say", "music": "compose"}
    model = next((each for each in commands if each in models), models[0])
    key = ' -H "Authorization: Bearer $ANTIPHON_API_KEY"' if require_keys else ""
    sample = (
        '"Hello from Antiphon." -o hello.wav' if model == "speech" else '"a calm evening" --seconds 20 -o evening.wav'
    )
    body = f'{{"model":"{model}","input":"Hello from Antiphon.","response_format":"wav"}}'
    steps = [
        *([f"{called()} {commands[model]} {sample} --url {http}"] if model in commands else []),
        f"curl {http}/v1/audio/speech{key} -H 'Content-Type: application/json' \\\n         -d '{body}' -o hello2.wav",
        f"{http}/docs in a browser: every route",
        *([] if model in commands else [f"{called()} fleet --url {http}"]),
    ]
    first = f"{called()} keys create --tenant me --nats {nats}, then export ANTIPHON_API_KEY=ak-…\n\n"
    return (
        f"\nAntiphon listens at {http}   (NATS: {nats}, models: {', '.join(models)})\n\n"
        + (f"  first: {first}" if require_keys else "")
        + "  try:   "
        + "\n         ".join(steps)
        + "\n\n  stop:  Ctrl-C\n"
    )
