"""Finds entries and jobs without an index: bisection over stream sequences (protocol rule 23)."""

from collections.abc import Callable
from typing import Final, TypeVar

from bus.jobs.client import Bus
from bus.jobs.damage import missing
from bus.jobs.entry import Entry
from bus.subjects import JobKey, Subjects, parse_birth
from bus.transport.direct import Stored

T = TypeVar("T")

_PAGE: Final = 256


async def first_entry(
    bus: Bus, key: JobKey, low_seq: int, high_seq: int, reached: Callable[[Entry], bool]
) -> Entry | None:
    """The first entry of the log in low_seq..high_seq for which `reached` is true; None if there is none.

    `reached` must be true for every entry after the first one. Raises Unreachable.
    """
    best: Entry | None = None
    while low_seq <= high_seq:
        middle = (low_seq + high_seq) // 2
        found = await bus.js.direct.next(bus.subjects.replies_stream, key.entries, middle)
        entry = Entry.stored(found[0]) if found else None
        if entry is None or entry.seq > high_seq:
            high_seq = middle - 1
        elif reached(entry):
            best, high_seq = entry, middle - 1
        else:
            low_seq = entry.seq + 1
    return best


async def block(bus: Bus, key: JobKey, birth_seq: int, tail_seq: int, number: int) -> Entry | None:
    """Block entry `number`, counted from 0; None if the log up to `tail_seq` does not have it.

    Raises Gone, or LogDamaged if the store has lost it.
    """
    entry = await first_entry(bus, key, birth_seq + 1, tail_seq, lambda entry: entry.position.block > number)
    if entry is None or entry.kind != "block":
        return None
    if entry.block != number:
        before = await first_entry(bus, key, birth_seq + 1, tail_seq, lambda each: each.position.block >= number)
        first = 0 if before is None or before.seq >= entry.seq else before.position.frame
        raise await missing(bus.logs, key, first, entry.frame)
    return entry


async def frame(bus: Bus, key: JobKey, birth_seq: int, tail_seq: int, number: int) -> Entry | None:
    """The block entry that holds frame `number`; None if the log up to `tail_seq` does not have it.

    Raises Gone, or LogDamaged if the store has lost it.
    """
    entry = await first_entry(bus, key, birth_seq + 1, tail_seq, lambda entry: entry.position.frame > number)
    if entry is None or entry.kind != "block":
        return None
    if entry.frame > number:
        raise await missing(bus.logs, key, number, entry.frame)
    return entry


async def media(bus: Bus, key: JobKey, birth_seq: int) -> tuple[int, int] | None:
    """(rate_hz, channels) of a job's audio, from the log's first entry; None while there is no such entry.

    Raises Gone or LogDamaged if the first entry is lost, EngineFailed if the job's media is not PCM.
    """
    found = await bus.js.direct.next(bus.subjects.replies_stream, key.entries, birth_seq + 1)
    if found is None:
        return None
    entry = Entry.stored(found[0])
    started = entry.started
    if started is None:
        if entry.is_end and not entry.position.block:
            return None  # it ended before a worker began it
        raise await missing(bus.logs, key, 0, entry.frame if entry.kind == "block" else entry.position.frame)
    return started.pcm_media


async def births(
    bus: Bus, tenant: str, limit: int, before_seq: int | None, keep: Callable[[Stored], T]
) -> tuple[list[T], bool]:
    """At most `limit` births of a tenant's jobs, newest first, as `keep` returns them; whether there may be older ones.

    A birth holds the whole request, so a thousand of them may be large: `keep` drops what is not needed. Only those
    before sequence `before_seq`, if it is given. Raises Unreachable.
    """
    stream, subject = bus.subjects.replies_stream, bus.subjects.births_of(tenant)
    state = (await bus.js.info(stream))["state"]
    first_seq, high = int(state["first_seq"]), int(state["last_seq"])
    newer = 0
    if before_seq is not None and before_seq <= high:
        newer = await _count(bus, subject, before_seq)
        high = before_seq - 1
    start = start_seq = await _start_of_last(bus, subject, first_seq, high, newer + limit)
    found: list[T] = []
    while True:
        page, pending = await bus.js.direct.page(stream, subject, start, batch=_PAGE)
        found += (keep(stored) for stored in page if stored.seq <= high)
        if not page or not pending or page[-1].seq > high or len(found) >= limit:
            return found[:limit][::-1], start_seq > first_seq
        start = page[-1].seq + 1


async def _start_of_last(bus: Bus, subject: str, low: int, high: int, wanted: int) -> int:
    """The sequence from which on there are exactly `wanted` messages of `subject`; `low` if there are fewer."""
    first = low
    while low <= high:
        middle = (low + high) // 2
        found = await bus.js.direct.next(bus.subjects.replies_stream, subject, middle)
        count = 0 if found is None else found[1] + 1
        if found is not None and count == wanted:
            return found[0].seq
        if found is not None and count > wanted:
            low = found[0].seq + 1
        else:
            high = middle - 1
    return first


async def _count(bus: Bus, subject: str, seq: int) -> int:
    """Messages of `subject` from sequence `seq` on."""
    found = await bus.js.direct.next(bus.subjects.replies_stream, subject, seq)
    return 0 if found is None else found[1] + 1


def job_of(subjects: Subjects, birth: Stored) -> JobKey:
    """The job whose birth this is."""
    return subjects.job_key(*parse_birth(birth.message.subject))
