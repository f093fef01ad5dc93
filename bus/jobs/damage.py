"""Why entries of a log are not there: they were removed on purpose, or a damaged store has lost them."""

from bus import wire
from bus.errors import Gone, JobError, LogDamaged
from bus.jobs.log import Logs
from bus.subjects import JobKey


async def missing(logs: Logs, key: JobKey, first: int, stop: int) -> JobError:
    """The error for frames `first` to `stop - 1` that are not in the log. Raises Unreachable.

    Gone: retention removes a log from its beginning, the birth before all else, and the audio of a job that ends
    without success may make room for its end (`last_resort`). Nothing else removes audio: LogDamaged.
    """
    if await logs.birth(key) is not None and not await _ends_without_success(logs, key):
        return LogDamaged.at(first, stop)
    return Gone(f"job {key.job!r}: its frames {first} to {stop - 1} were removed by retention")


async def _ends_without_success(logs: Logs, key: JobKey) -> bool:
    tail = await logs.tail(key)
    if tail is not None and tail.is_end:
        return tail.kind != wire.End.DONE
    stored = await logs.lease(key)
    return stored is not None and stored.lease.state in wire.ENDS
