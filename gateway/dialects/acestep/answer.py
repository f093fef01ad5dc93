"""How a task stands, in ACE-Step's words."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from bus import wire
from bus.errors import Gone, NotFound
from bus.fleet.fleet import Fleet
from bus.jobs import lookup
from bus.jobs.status import Status
from gateway.dialects.acestep.task import Task, task_of
from gateway.jobs.service import Jobs
from gateway.jobs.view import ShownJob, view

_RUNNING, _SUCCEEDED, _FAILED = 0, 1, 2
#: The newest births of a tenant among which a door's jobs are looked for, and how many of those are looked at.
_MAX_BIRTHS, _MAX_LOOKED_AT, _AT_ONCE = 1000, 200, 32


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """How a task stands: 0 it is waiting or running, 1 it succeeded, 2 it did not."""

    task_id: str
    status: Literal[0, 1, 2]
    #: JSON of a list, with an object for each job.
    result: str
    #: Of this task alone.
    progress_text: str
    #: From 1, while it waits.
    queue_position: int | UnsetType = UNSET
    error: str | UnsetType = UNSET


class Counts(msgspec.Struct, kw_only=True):
    total: int
    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    jobs: Counts
    queue_size: int
    #: The queue has no number that it may not pass: it is limited in bytes.
    queue_maxsize: int | None
    avg_job_seconds: float


class _Told(msgspec.Struct, frozen=True):
    """One job of a task."""

    element: dict[str, Any]
    line: str
    position: int | None


async def task(jobs: Jobs, fleet: Fleet, tenant: str, task_id: str, path: Callable[[Task, str], str]) -> Entry:
    """An entry of `query_result`. Nobody polls for ever for a task that is not there: it has failed."""
    try:
        named = task_of(task_id)
        told = await _in_order(_job(jobs, fleet, tenant, named, job_id, path) for job_id in named.jobs)
    except (NotFound, Gone) as error:
        element = {"file": "", "wave": "", "status": _FAILED, "error": str(error)}
        return Entry(task_id=task_id, status=2, result=_json([element]), progress_text="", error=str(error))
    elements = [each.element for each in told]
    states = {element["status"] for element in elements}
    count = len(told)
    lines = [each.line if count == 1 else f"{n} of {count}: {each.line}" for n, each in enumerate(told, 1)]
    return Entry(
        task_id=task_id,
        status=2 if _FAILED in states else 1 if states == {_SUCCEEDED} else 0,
        result=_json(elements),
        progress_text="; ".join(lines),
        queue_position=min((each.position for each in told if each.position is not None), default=UNSET),
        error=next((element["error"] for element in elements if element["status"] == _FAILED), UNSET),
    )


async def _in_order(looks: Iterable[Coroutine[Any, Any, _Told]]) -> list[_Told]:
    """All of them at once; of several that fail the first one's error, however soon the others'."""
    told: list[_Told] = []
    for each in await asyncio.gather(*looks, return_exceptions=True):
        if isinstance(each, BaseException):
            raise each
        told.append(each)
    return told


def _json(elements: list[dict[str, Any]]) -> str:
    return msgspec.json.encode(elements).decode()


async def _job(
    jobs: Jobs, fleet: Fleet, tenant: str, named: Task, job_id: str, path: Callable[[Task, str], str]
) -> _Told:
    """Raises NotFound, Gone, Unreachable."""
    found = await jobs.find(jobs.key(tenant, job_id))
    shown = await view(jobs.bus, found)
    wanted_s = _wanted_s(fleet, found.birth.job)
    state, error = shown.state, shown.error
    position, line = None, str(state)
    if state == "queued":
        waits = await jobs.queue_position(found.birth)
        if waits is not None:
            position, line = waits.position + 1, f"queued, {waits.position} ahead"
    elif state == "running":
        line = f"running, {shown.seconds:.1f} s" + (f" of {wanted_s:g} s" if wanted_s else "")
    elif error is not UNSET:
        line = f"{state}: {error.message}"
    return _Told(_element(found, shown, wanted_s, path(named, job_id)), line, position)


def _wanted_s(fleet: Fleet, job: wire.Job) -> float | None:
    """How long the sound will be, if the model is one that is told."""
    if "seconds" in job.params:
        return float(job.params["seconds"])
    card = fleet.card(job.model)
    default = card and card.param_schema.get("properties", {}).get("seconds", {}).get("default")
    return float(default) if default else None


def _element(found: Status, shown: ShownJob, wanted_s: float | None, path: str) -> dict[str, Any]:
    job, state, facts = found.birth.job, shown.state, shown.engine or {}
    status = _SUCCEEDED if state == "done" else _FAILED if found.is_ended else _RUNNING
    key = " ".join(str(facts[name]) for name in ("key", "mode") if name in facts)
    return {
        "file": path if status == _SUCCEEDED else "",
        "wave": "",
        "status": status,
        "create_time": int(found.birth.accepted_at),
        "env": "production",
        "prompt": job.input,
        "lyrics": job.params.get("lyrics", ""),
        "metas": {
            "bpm": facts.get("bpm", job.params.get("bpm")),
            "duration": shown.seconds if status == _SUCCEEDED else wanted_s,
            "genres": facts.get("style", ""),
            "keyscale": key or job.params.get("key", ""),
            "timesignature": facts.get("metre", ""),
        },
        "generation_info": _info(shown),
        "seed_value": str(job.seed),
        "lm_model": "",
        "dit_model": job.model,
        "progress": _progress(shown, wanted_s),
        "stage": "succeeded" if status == _SUCCEEDED else state,
        "error": shown.error.message if shown.error is not UNSET else None,
    }


def _info(shown: ShownJob) -> str:
    timings = shown.timings
    if timings is UNSET:
        return ""
    return f"{shown.seconds:.1f} s of sound in {timings.total_s:.2f} s, {timings.queued_s:.2f} s of them waiting"


def _progress(shown: ShownJob, wanted_s: float | None) -> float:
    """From 0 to 1, which is for what is done."""
    if shown.state == "done":
        return 1.0
    if wanted_s and shown.seconds:
        return round(min(0.99, float(shown.seconds) / wanted_s), 3)
    progress = shown.progress
    if progress is not UNSET and progress.total:
        return round(min(0.99, progress.done / progress.total), 3)
    return 0.0


_STAT: Final[dict[str, Literal["queued", "running", "succeeded", "failed"]]] = {
    "queued": "queued",
    "running": "running",
    "interrupted": "running",
    "done": "succeeded",
    "failed": "failed",
    "cancelled": "failed",
    "expired": "failed",
}


async def stats(jobs: Jobs, tenant: str, api: str) -> Stats:
    """Of the tenant's newest jobs by `api`."""
    births, _ = await lookup.births(jobs.bus, tenant, _MAX_BIRTHS, None)
    names = [
        lookup.job_of(jobs.bus.subjects, stored)
        for stored in births
        if wire.decode(wire.Birth, stored.message.data).job.client.api == api
    ][:_MAX_LOOKED_AT]
    shown: list[ShownJob] = []
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        found = await asyncio.gather(*(jobs.find(name) for name in some))
        shown += await asyncio.gather(*(view(jobs.bus, each) for each in found))
    states: Counter[str] = Counter(_STAT[each.state] for each in shown)
    counts = Counts(total=len(shown), **states)
    took_s = [each.timings.total_s for each in shown if each.timings is not UNSET]
    return Stats(
        jobs=counts,
        queue_size=counts.queued,
        queue_maxsize=None,
        avg_job_seconds=round(sum(took_s) / len(took_s), 3) if took_s else 0.0,
    )
