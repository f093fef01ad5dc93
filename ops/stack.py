"""The one-machine stack: a private nats-server, one gateway and the workers, supervised in the foreground."""

import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

import msgspec

from bus.telemetry import logger
from ops import nats_server
from ops.errors import OpsError
from ops.plan import Plan, plan
from ops.readiness import nats_ready, stack_ready
from ops.settings import UpSettings
from ops.supervisor import Child, Launch, LaunchError, Spec, stop_all, supervised

log = logger(__name__)

#: A child that was asked to drain gets this much longer before it is killed.
_GRACE_S = 5.0
#: For a nats-server on our store that is just leaving because its `up` was killed.
LOCK_PATIENCE_S = 5.0


class Stack(msgspec.Struct):
    nats: Child
    gateways: list[Child]
    workers: dict[str, Child]

    def pids(self) -> dict[str, object]:
        return {
            "nats": self.nats.pid,
            "gateway": [child.pid for child in self.gateways],
            "workers": {name: child.pid for name, child in self.workers.items()},
        }


Announce = Callable[[Plan, Stack], None]


def serve(config: str | None, *, as_json: bool) -> Callable[[UpSettings, asyncio.Event], Awaitable[None]]:
    """What `ops.process.run` runs for `antiphon up`."""

    async def run(settings: UpSettings, stop: asyncio.Event) -> None:
        await up(plan(settings, config), stop, announce_json if as_json else announce_human)

    return run


async def up(plan: Plan, stop: asyncio.Event, announce: Announce) -> None:
    """Run the stack until `stop`, calling `announce` once a request would succeed. Leaves no process behind.

    Raises OpsError if the store is in use, NATS does not start, or a child refuses its settings before it is ready.
    """
    with ExitStack() as cleanup:
        try:
            lock = cleanup.enter_context(nats_server.locked(plan.state, LOCK_PATIENCE_S))
            nats_server.prepare(plan.state, lock, port=plan.nats_port)
            out = cleanup.enter_context((plan.state / "server.out").open("ab")).fileno()
        except (nats_server.NatsServerError, OSError) as error:
            raise OpsError(str(error)) from error
        try:
            async with supervised(_to_stderr) as start:
                stack = await _start(plan, start, lambda: _nats(plan, lock, out), stop)
                if stack is not None:
                    await _until_stopped(plan, stack, stop, announce)
        except ExceptionGroup as group:
            raise _first(group) from None


async def _start(
    plan: Plan, start: Callable[[Spec], Child], nats: Callable[[], Launch], stop: asyncio.Event
) -> Stack | None:
    """NATS first, 50 ms, then all others side by side. None if stopped meanwhile."""
    server = start(Spec("nats", nats, patience_s=10.0))
    if not await nats_ready(plan, server, stop):
        await server.stop()
        return None
    patience_s = plan.settings.drain_s + _GRACE_S
    return Stack(
        nats=server,
        gateways=[start(Spec("gateway", _launch(plan.gateway_command()), patience_s))],
        workers={
            name: start(Spec(f"worker {name}", _launch(plan.worker_command(name)), patience_s)) for name in plan.workers
        },
    )


async def _until_stopped(plan: Plan, stack: Stack, stop: asyncio.Event, announce: Announce) -> None:
    async with asyncio.TaskGroup() as group:
        watch = group.create_task(_announce(plan, stack, announce), name="readiness")
        await stop.wait()
        watch.cancel()
    log.info("stack.stopping")
    # Workers first: while they finish what they hold, the gateway still carries it to the listeners.
    await stop_all(list(stack.workers.values()))
    await stop_all(stack.gateways)
    await stop_all([stack.nats])


async def _announce(plan: Plan, stack: Stack, announce: Announce) -> None:
    await stack_ready(plan, [*stack.gateways, *stack.workers.values()])
    announce(plan, stack)


def _nats(plan: Plan, lock: int, out: int) -> Launch:
    try:
        launch = nats_server.prepare(plan.state, lock, port=plan.nats_port)
    except nats_server.NatsServerError as error:
        raise LaunchError(str(error)) from error
    return Launch(argv=launch.argv, output=out, pass_fds=(lock,), on_orphaned=signal.SIGTERM)


def _first(error: Exception) -> Exception:
    """What went wrong first: each task group wraps what its own body raised once more."""
    return _first(error.exceptions[0]) if isinstance(error, ExceptionGroup) else error


def _launch(argv: list[str]) -> Callable[[], Launch]:
    return lambda: Launch(argv=argv)


def _to_stderr(lines: bytes) -> None:
    sys.stderr.buffer.write(lines)
    sys.stderr.buffer.flush()


def announce_json(plan: Plan, stack: Stack) -> None:
    """The one line on stdout that scripts wait for."""
    line = {"ready": True, "http": plan.http, "nats": plan.nats, "pids": stack.pids()}
    print(json.dumps(line, separators=(",", ":")), flush=True)


def announce_human(plan: Plan, stack: Stack) -> None:
    """What a person does next."""
    model = "speech" if "speech" in plan.models else plan.models[0]
    example = (
        f"curl {plan.http}/v1/audio/speech -H 'Content-Type: application/json' \\\n"
        f'         -d \'{{"model":"{model}","input":"Hello from Antiphon.","response_format":"wav"}}\' -o hello.wav'
    )
    music = f'\n  or:    antiphon compose "a calm evening" --seconds 20 -o evening.wav --url {plan.http}'
    print(
        f"\nAntiphon listens at {plan.http}   (NATS: {plan.nats}, models: {', '.join(plan.models)})\n\n"
        f"  try:   {example}{music if 'music' in plan.models else ''}\n  stop:  Ctrl-C\n",
        flush=True,
    )
