"""Reads every log of a run back from the bus when the run is over, and checks each sample on the way."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from bus import wire
from bus.jobs.client import Bus
from bus.jobs.entry import Entry
from bus.subjects import JobKey, parse_birth
from bus.transport.direct import Stored
from ops.chaos.ledger import CheckedEntry
from ops.chaos.samples import Reference

_PAGE_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class Log:
    """The log of one job."""

    job: wire.Job
    entries: list[CheckedEntry]
    #: Unix seconds at which each entry was stored.
    stored_at: list[float]

    @property
    def end(self) -> str:
        """Kind of the first end in it; "" if there is none."""
        return next((entry.kind for entry in self.entries if entry.kind in wire.ENDS), "")


async def logs(bus: Bus, reference_of: Callable[[wire.Job], Reference | None]) -> dict[str, Log]:
    """The log of every job that was ever accepted, by job id. Raises BusError."""
    found, seq = {}, 1
    while True:
        page, pending = await bus.js.direct.page(bus.subjects.replies_stream, bus.subjects.all_births, seq)
        for stored in page:
            tenant, job_id = parse_birth(stored.message.subject)
            job = wire.decode(wire.Birth, stored.message.data).job
            found[job_id] = await _log(bus, bus.subjects.job_key(tenant, job_id), job, reference_of(job))
            seq = stored.seq + 1
        if not page or not pending:
            return found


async def _log(bus: Bus, key: JobKey, job: wire.Job, reference: Reference | None) -> Log:
    checker, seq = _Checker(reference), 1
    log = Log(job, [], [])
    while True:
        page, pending = await bus.js.direct.page(bus.subjects.replies_stream, key.entries, seq, max_bytes=_PAGE_BYTES)
        for stored in page:
            log.entries.append(checker.check(Entry.stored(stored)))
            log.stored_at.append(_unix_s(stored))
            seq = stored.seq + 1
        if not page or not pending:
            return log


class _Checker:
    """Compares the entries of one log, in their order, with its reference."""

    def __init__(self, reference: Reference | None) -> None:
        self._reference = reference
        self._crc32 = 0
        self._frame_bytes = reference.frame_bytes if reference is not None else 2

    def check(self, entry: Entry) -> CheckedEntry:
        started = entry.started
        if started is not None:
            self._frame_bytes = 2 * wire.parse_media_type(started.media)[1]
        frames, wrong_at = 0, None
        if entry.kind == "block":
            self._crc32 = zlib.crc32(entry.payload, self._crc32)
            frames = len(entry.payload) // self._frame_bytes
            if self._reference is not None:
                wrong_at = self._reference.wrong_at(entry.frame * self._frame_bytes, entry.payload)
        return CheckedEntry(
            seq=entry.seq,
            kind=entry.kind,
            block=entry.block,
            frame=entry.frame,
            frames=frames,
            stored_crc32=entry.position.crc32,
            crc32=self._crc32,
            wrong_at=wrong_at,
            started=started,
            done=wire.decode(wire.Done, entry.payload) if entry.kind == "done" else None,
            why=_why(entry),
        )


def _why(entry: Entry) -> str:
    if entry.kind == "failed":
        failed = wire.decode(wire.Failed, entry.payload)
        return f"{failed.code}: {failed.message}"
    return wire.decode(wire.Ended, entry.payload).why if entry.kind in {"cancelled", "expired"} else ""


def _unix_s(stored: Stored) -> float:
    """When an entry was stored. The server gives nanoseconds, more digits than `fromisoformat` reads."""
    text, _, fraction = stored.stored_at.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{text}+00:00").timestamp() + float(f"0.{fraction or 0}")
