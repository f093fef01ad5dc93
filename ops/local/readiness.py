"""Waits until the one-machine stack is ready: not before a request would succeed."""

import asyncio
from collections.abc import Mapping, Sequence
from http import HTTPStatus

import aiohttp
import msgspec

from bus.errors import BusError
from bus.jobs.client import open_bus
from bus.jobs.lost_jobs import end_lost_jobs
from bus.settings import SettingsError
from bus.subjects import JobKey
from bus.telemetry.logging import logger
from ops.errors import OpsError
from ops.local import nats_server
from ops.local.node import Node
from ops.local.plan import Plan
from ops.local.supervisor import Child

log = logger(__name__)

_POLL_S = 0.05
_LOG_EVERY_S = 5.0
_NATS_READY_S = 60.0

#: By worker and model, why the model could not be loaded.
Failed = dict[str, dict[str, str]]


async def nats_ready(servers: Mapping[Child, Node], stop: asyncio.Event) -> bool:
    """True once every server is healthy, False if `stop` is set first.

    Raises StoreDamaged as soon as a server has started without one of its streams, OpsError after a minute, with a log.
    """
    waiting = dict(servers)
    try:
        async with asyncio.timeout(_NATS_READY_S):
            while waiting and not stop.is_set():
                await asyncio.sleep(0.01)
                waiting = {child: node for child, node in waiting.items() if node.ready(child.pid) is None}
                for child, node in waiting.items():
                    node.check_recovered(child.pid)
    except TimeoutError as error:
        node = next(iter(waiting.values()))
        raise OpsError(
            f"{node.name} is not healthy after {_NATS_READY_S:g} s:\n{nats_server.log_tail(node.folder)}"
        ) from error
    return not waiting


async def lost_jobs(plan: Plan) -> list[JobKey]:
    """The jobs that the store has lost; they are ended. NATS is ready, and no other process of the stack runs.

    Empty, with a line in the log, if the bus cannot be looked at: the gateway will say why.
    """
    try:
        async with open_bus(plan.bus, "operator") as bus:
            return await end_lost_jobs(bus)
    except (BusError, SettingsError) as error:
        log.warning("store.unchecked", error=str(error))
        return []


async def stack_ready(plan: Plan, children: Sequence[Child]) -> Failed:
    """Return once every worker serves every model, or still loads it; the models that could not be loaded by then.

    Raises OpsError if a child exits with a usage error, or a worker could load no model at all.
    """
    now = asyncio.get_running_loop().time
    began = logged = now()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5.0)) as session:
        while (answer := await _checked(session, plan)).awaits_more:
            if refused := [child.spec.name for child in children if child.refused.is_set()]:
                raise OpsError(f"{refused[0]} refused its settings; see its line above")
            if now() - logged >= _LOG_EVERY_S:
                logged = now()
                waiting_for = f"GET /readyz: {'; '.join(answer.missing)[:500]}"
                log.warning("stack.waiting", waiting_for=waiting_for, after_s=round(now() - began, 1))
            await asyncio.sleep(_POLL_S)
    log.info("stack.ready", http=plan.http, nats=plan.nats, after_s=round(now() - began, 3))
    return answer.failed


class _Readiness(msgspec.Struct):
    """The answer to `GET /readyz`."""

    missing: list[str] = []
    #: Each model has an entry of `missing` too.
    failed: Failed = {}

    @property
    def awaits_more(self) -> bool:
        """Whether something is missing that may still come."""
        return len(self.missing) > sum(map(len, self.failed.values()))


async def _checked(session: aiohttp.ClientSession, plan: Plan) -> _Readiness:
    """The readiness of a stack. Raises OpsError if a worker could load no model."""
    answer = await _readiness(session, plan)
    for worker, reasons in answer.failed.items():
        if reasons.keys() >= set(plan.models):
            why = "; ".join(f"{model}: {reason}" for model, reason in reasons.items())
            raise OpsError(f"{worker} could load no model: {why}")
    return answer


async def _readiness(session: aiohttp.ClientSession, plan: Plan) -> _Readiness:
    """The gateway's answer, or the reason why there is none."""
    query = [("worker", worker) for worker in plan.workers] + [("model", model) for model in plan.models]
    try:
        # The certificate is for the name that clients use, which is not this address.
        async with session.get(f"{plan.http}/readyz", params=query, ssl=False) as ready:
            text = await ready.text()
    except (aiohttp.ClientError, TimeoutError) as error:
        return _Readiness([f"gateway: {error or type(error).__name__}"])
    if ready.status == HTTPStatus.OK:
        return _Readiness()
    try:
        answer = msgspec.json.decode(text, type=_Readiness)
    except msgspec.DecodeError:
        answer = _Readiness()
    return answer if answer.missing else _Readiness([f"{ready.status} {text[:500]}"])
