"""All logs of a run, read back from the bus when it is over, checked sample by sample on the way."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from bus import wire
from bus.jobs.client import Bus
from bus.jobs.entry import Entry
from bus.subjects import JobKey, parse_birth
from bus.transport.jetstream import Stored
from ops.chaos.ledger import Line
from ops.chaos.samples import Truth

_PAGE_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class Log:
    job: wire.Job
    lines: list[Line]
    #: Unix seconds at which each line was stored.
    stored_at: list[float]

    @property
    def end(self) -> str:
        return next((line.kind for line in self.lines if line.kind in wire.ENDS), "")


async def logs(bus: Bus, truth_of: Callable[[wire.Job], Truth | None]) -> dict[str, Log]:
    """Every job that was ever accepted, by id. Raises BusError."""
    found, seq = {}, 1
    while True:
        page, pending = await bus.js.page(bus.subjects.replies_stream, bus.subjects.all_births, seq)
        for stored in page:
            tenant, job_id = parse_birth(stored.message.subject)
            job = wire.decode(wire.Birth, stored.message.data).job
            found[job_id] = await _log(bus, bus.subjects.job_key(tenant, job_id), job, truth_of(job))
            seq = stored.seq + 1
        if not page or not pending:
            return found


async def _log(bus: Bus, name: JobKey, job: wire.Job, truth: Truth | None) -> Log:
    reader, seq = _Reader(truth), 1
    log = Log(job, [], [])
    while True:
        page, pending = await bus.js.page(bus.subjects.replies_stream, name.entries, seq, max_bytes=_PAGE_BYTES)
        for stored in page:
            log.lines.append(reader.read(Entry.stored(stored)))
            log.stored_at.append(_unix_s(stored))
            seq = stored.seq + 1
        if not page or not pending:
            return log


class _Reader:
    """Turns entries into lines, in their order."""

    def __init__(self, truth: Truth | None) -> None:
        self._truth, self._crc32 = truth, 0
        self._frame_bytes = truth.frame_bytes if truth is not None else 2

    def read(self, entry: Entry) -> Line:
        started = entry.started
        if started is not None:
            self._frame_bytes = 2 * wire.parse_media_type(started.media)[1]
        frames, wrong_at = 0, None
        if entry.kind == "block":
            self._crc32 = zlib.crc32(entry.payload, self._crc32)
            frames = len(entry.payload) // self._frame_bytes
            if self._truth is not None:
                wrong_at = self._truth.wrong_at(entry.frame * self._frame_bytes, entry.payload)
        return Line(
            seq=entry.seq,
            kind=entry.kind,
            block=entry.block,
            frame=entry.frame,
            frames=frames,
            told_crc32=entry.position.crc32,
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
    """Nanoseconds are more than `fromisoformat` reads."""
    text, _, fraction = stored.stored_at.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{text}+00:00").timestamp() + float(f"0.{fraction or 0}")
