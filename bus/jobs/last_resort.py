"""The last way to end a job when REPLIES has no byte left: its own audio makes room for its end. Protocol rule 15.

Blocks stop before the store is full, so this is for a store that something else has filled.
"""

from typing import Any

from bus import wire
from bus.subjects import JobKey
from bus.telemetry.logging import logger
from bus.transport.jetstream import JetStream

log = logger(__name__)


async def free_room(js: JetStream, stream: str, key: JobKey, kind: str) -> bool:
    """Purge the entries of a job that is being ended as `kind`, but the last one; whether there was any to purge.

    The last one holds the position, which the end needs. The audio can be played no more: it is `Gone`. That of a job
    that ends as `done` is kept. If its worker was about to append `done`, this log may lose its audio and still end so.

    Raises ApiError, Unreachable.
    """
    if kind == wire.End.DONE:
        return False

    async def purge() -> dict[str, Any]:
        return await js.api(f"STREAM.PURGE.{stream}", {"filter": key.entries, "keep": 1})

    num_purged = int((await js.retry(f"purge {key.entries}", purge)).get("purged", 0))
    log.warning("job.audio_purged", job=key.job, tenant=key.tenant, entries=num_purged, ending=kind)
    return num_purged > 0
