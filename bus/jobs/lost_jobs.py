"""Jobs whose queue message a damaged store has lost: found by their logs, and ended, so that no client waits for them.

A log without an end has its message in JOBS: a worker acknowledges it after the end only. Where that does not hold, the
store has lost the message, or the end; no worker will ever take the job.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from bus import wire
from bus.errors import Interrupted, Malformed
from bus.jobs.client import Bus
from bus.jobs.lookup import job_of
from bus.subjects import JobKey
from bus.telemetry.logging import logger

log = logger(__name__)

#: Requests in flight at a time.
_AT_ONCE: Final = 64
_WHY: Final = "the store was damaged, and the job's message in the queue is lost with it; send the request again"


class _Born(NamedTuple):
    key: JobKey
    queue_seq: int


async def end_lost_jobs(bus: Bus) -> list[JobKey]:
    """End every job without a message in JOBS as `failed`; returns them, oldest first.

    Call it after a server has started on a store that may be damaged, best before jobs are accepted: the sequences that
    logs refer to are assigned to no later message. Jobs that were queued directly and not begun have no log: they are
    not found. Cancelling leaves some jobs ended and others not. Raises Unreachable, ApiError.
    """
    born = [each async for each in _births(bus)]
    if not born:
        return []
    await _skip_used(bus, max(each.queue_seq for each in born))
    turns = asyncio.Semaphore(_AT_ONCE)

    async def look(each: _Born) -> bool:
        async with turns:
            return await _end_if_lost(bus, each)

    try:
        async with asyncio.TaskGroup() as tasks:
            looks = [tasks.create_task(look(each)) for each in born]
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    return [each.key for each, task in zip(born, looks, strict=True) if task.result()]


async def _end_if_lost(bus: Bus, born: _Born) -> bool:
    """Whether the job was lost, and is ended now."""
    key = born.key
    tail = await bus.logs.tail(key)
    if (tail is not None and tail.is_end) or await bus.js.at(bus.subjects.jobs_stream, born.queue_seq):
        return False
    failed = wire.Failed(code=Interrupted.code, message=_WHY)
    ended = await bus.logs.end(key, wire.End.FAILED, _WHY, failed)
    tail = await bus.logs.tail(key)
    if tail is None or tail.payload != wire.encode(failed):
        return False  # its worker ended it between the two reads
    log.error("job.lost", job=key.job, tenant=key.tenant, ended=ended)
    return True


async def _births(bus: Bus) -> AsyncIterator[_Born]:
    """The births of all logs, oldest first."""
    seq = 1
    while True:
        page, pending = await bus.js.direct.page(bus.subjects.replies_stream, bus.subjects.all_births, seq)
        for stored in page:
            try:
                birth = wire.decode(wire.Birth, stored.message.data)
                yield _Born(job_of(bus.subjects, stored), birth.queue_seq)
            except (Malformed, ValueError) as error:
                log.warning("log.unreadable", subject=stored.message.subject, error=str(error))
        if not page or not pending:
            return
        seq = page[-1].seq + 1


async def _skip_used(bus: Bus, queue_seq: int) -> None:
    """Let the next message of JOBS come after sequence `queue_seq`.

    A damaged JOBS may assign sequences again that logs refer to. Ending such a log would remove another job's message.
    """
    stream = bus.subjects.jobs_stream
    state = (await bus.js.info(stream))["state"]
    if (missing := queue_seq - int(state["last_seq"])) <= 0:
        return
    log.warning("queue.skipped", stream=stream, last_seq=state["last_seq"], next_seq=queue_seq + 1)
    if not state["messages"]:
        await bus.js.api(f"STREAM.PURGE.{stream}", {"seq": queue_seq + 1})
        return
    # Messages that no consumer takes, as many as the damage has cost.
    filler = bus.subjects.job("none", "none", "none", "none")
    while missing > 0:
        await asyncio.gather(*(bus.js.publish(filler, b"") for _ in range(min(missing, _AT_ONCE))))
        missing -= _AT_ONCE
    await bus.js.api(f"STREAM.PURGE.{stream}", {"filter": filler})
