"""The entries of `query_result`: the status of a task and of each of its jobs, in ACE-Step's terms."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from bus import wire
from bus.errors import BusError, Unreachable
from bus.fleet.fleet import Fleet
from bus.jobs.status import Status
from bus.wire import State
from gateway.dialects.acestep.task import Task, task_of
from gateway.jobs.service import Jobs
from gateway.jobs.view import ShownJob, view

#: ACE-Step's status of a task and of a job.
_RUNNING: Final = 0
_SUCCEEDED: Final = 1
_FAILED: Final = 2


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """The status of a task: 0 queued or running, 1 succeeded, 2 failed."""

    task_id: str
    status: Literal[0, 1, 2]
    #: JSON of a list, with an object for each job.
    result: str
    progress_text: str
    #: The place of its first job in the queue, from 1; absent if none is queued.
    queue_position: int | UnsetType = UNSET
    error: str | UnsetType = UNSET


class _JobResult(msgspec.Struct, frozen=True):
    """The part of an entry that is about one job."""

    element: dict[str, Any]
    progress_text: str
    #: From 1; None if the job is not queued, or its place is unknown.
    queue_position: int | None


class TaskResults:
    """Finds the results of one tenant's tasks."""

    def __init__(self, jobs: Jobs, fleet: Fleet, tenant: str, path_of: Callable[[Task, str], str]) -> None:
        """`path_of`: the path of the audio of a task's job."""
        self._jobs = jobs
        self._fleet = fleet
        self._tenant = tenant
        self._path_of = path_of

    async def entry(self, task_id: str) -> Entry:
        """The entry of a task.

        A task that is unknown or cannot be read is reported as failed, so that no client polls for it forever.

        Raises Unreachable.
        """
        try:
            task = task_of(task_id)
            results = await gather_in_order(self._job(task, job_id) for job_id in task.jobs)
        except Unreachable:
            raise
        except BusError as error:
            element = {"file": "", "wave": "", "status": _FAILED, "error": str(error)}
            return Entry(task_id=task_id, status=2, result=_json([element]), progress_text="", error=str(error))
        elements = [each.element for each in results]
        states = {element["status"] for element in elements}
        count = len(results)
        texts = [each.progress_text for each in results]
        if count > 1:
            texts = [f"{number} of {count}: {text}" for number, text in enumerate(texts, 1)]
        positions = [each.queue_position for each in results if each.queue_position is not None]
        return Entry(
            task_id=task_id,
            status=2 if _FAILED in states else 1 if states == {_SUCCEEDED} else 0,
            result=_json(elements),
            progress_text="; ".join(texts),
            queue_position=min(positions, default=UNSET),
            error=next((element["error"] for element in elements if element["status"] == _FAILED), UNSET),
        )

    async def _job(self, task: Task, job_id: str) -> _JobResult:
        """Raises NotFound, Gone, Unreachable."""
        found = await self._jobs.find(self._jobs.key(self._tenant, job_id))
        shown = await view(self._jobs.bus, found)
        total_s = _total_s(self._fleet, found.birth.job)
        state = shown.state
        text = str(state)
        position = None
        if state is State.QUEUED:
            place = await self._jobs.queue_position(found.birth)
            if place is not None:
                position = place.position + 1
                text = f"queued, {place.position} ahead"
        elif state is State.RUNNING:
            text = f"running, {shown.seconds:.1f} s" + (f" of {total_s:g} s" if total_s else "")
        elif shown.error is not UNSET:
            text = f"{state}: {shown.error.message}"
        return _JobResult(_element(found, shown, total_s, self._path_of(task, job_id)), text, position)


async def gather_in_order(results: Iterable[Coroutine[Any, Any, _JobResult]]) -> list[_JobResult]:
    """All results, awaited together. If several raise, the error of the first in order, whichever raised first."""
    gathered: list[_JobResult] = []
    for each in await asyncio.gather(*results, return_exceptions=True):
        if isinstance(each, BaseException):
            raise each
        gathered.append(each)
    return gathered


def _json(elements: list[dict[str, Any]]) -> str:
    return msgspec.json.encode(elements).decode()


def _total_s(fleet: Fleet, job: wire.Job) -> float | None:
    """Seconds of audio that the job will have; None if neither its params nor its model state them."""
    if "seconds" in job.params:
        try:
            return float(job.params["seconds"])
        except (TypeError, ValueError, OverflowError):
            return None  # published directly: the engine refuses it
    card = fleet.known_versions.get(job.model, {}).get(job.version)
    default = card and card.param_schema.get("properties", {}).get("seconds", {}).get("default")
    return float(default) if default else None


def _element(found: Status, shown: ShownJob, total_s: float | None, path: str) -> dict[str, Any]:
    """The object of one job in `result`."""
    job = found.birth.job
    facts = shown.engine or {}
    status = _SUCCEEDED if shown.state is State.DONE else _FAILED if found.is_ended else _RUNNING
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
            "duration": shown.seconds if status == _SUCCEEDED else total_s,
            "genres": facts.get("style", ""),
            "keyscale": key or job.params.get("key", ""),
            "timesignature": str(facts.get("metre", "")).partition("/")[0],
        },
        "generation_info": _info(shown),
        "seed_value": str(job.seed),
        "lm_model": "",
        "dit_model": job.model,
        "progress": _progress(shown, total_s),
        "stage": "succeeded" if status == _SUCCEEDED else shown.state,
        "error": shown.error.message if shown.error is not UNSET else None,
    }


def _info(shown: ShownJob) -> str:
    """The timings of a job that is done, as text."""
    timings = shown.timings
    if timings is UNSET:
        return ""
    return f"{shown.seconds:.1f} s of sound in {timings.total_s:.2f} s, {timings.queued_s:.2f} s of them waiting"


def _progress(shown: ShownJob, total_s: float | None) -> float:
    """From 0 to 1; 1 means done."""
    if shown.state is State.DONE:
        return 1.0
    if total_s and shown.seconds:
        return round(min(0.99, float(shown.seconds) / total_s), 3)
    progress = shown.progress
    if progress is not UNSET and progress.total:
        return round(min(0.99, progress.done / progress.total), 3)
    return 0.0
