"""How long each stream was silent after its worker was killed: until its client received the next block. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ops.chaos.injector import Injection
from ops.chaos.ledger import ClientRecord
from ops.chaos.readback import Log

#: A fault this soon before the kill may still slow the stack: its process is starting again.
_SHADOW_S = 2.0


@dataclass(frozen=True, slots=True)
class Takeover:
    """One stream that went on with another worker."""

    job: str
    worker: str
    #: When the worker was killed, monotonic seconds.
    at: float
    #: From the kill to the next block at the client, less the time that the engine needs for one block.
    silence_s: float
    #: No other fault was near, and other warm workers had a free slot for every job that was hit.
    undisturbed: bool


def takeovers(
    injections: Sequence[Injection],
    records: Sequence[ClientRecord],
    logs: Mapping[str, Log],
    wall_less_monotonic_s: float,
) -> list[Takeover]:
    """The takeovers of every stream that a killed worker had started. Only clients that read at once count."""
    prompt = [each for each in records if each.request.compute_s and each.request.behaviour == "listen"]
    paced = [each for each in prompt if each.job in logs]
    found = []
    for kill in injections:
        if kill.kind != "worker_kill":
            continue
        hits = [
            (each, silence_s)
            for each in paced
            if (silence_s := _silence_s(kill, each, logs[each.job], wall_less_monotonic_s)) is not None
        ]
        others = [other for other in injections if other is not kill]
        for each, silence_s in hits:
            until = kill.at + silence_s + each.request.compute_s
            alone = not any(_overlaps(other, kill.at - _SHADOW_S, until) for other in others)
            undisturbed = alone and kill.free_slots >= max(kill.held, len(hits)) and not each.resumed
            found.append(Takeover(each.job, kill.target, kill.at, max(0.0, silence_s), undisturbed))
    return found


def _overlaps(injection: Injection, since: float, until: float) -> bool:
    return injection.target != "client" and injection.at <= until and injection.until >= since


def _silence_s(kill: Injection, record: ClientRecord, log: Log, wall_less_monotonic_s: float) -> float | None:
    """None if the killed worker did not hold the stream, or the next worker's first block never arrived."""
    killed_at = kill.at + wall_less_monotonic_s
    attempts = [(at, entry) for at, entry in zip(log.stored_at, log.entries, strict=True) if entry.started is not None]
    before = [entry for at, entry in attempts if at <= killed_at]
    after = [entry for at, entry in attempts if at > killed_at]
    if not before or not after or before[-1].started is None or before[-1].started.worker != kill.target:
        return None
    if after[0].kind != "block":
        return None
    resumed_at = record.arrived_at(after[0].frame * 2)
    return None if resumed_at is None or resumed_at < kill.at else resumed_at - kill.at - record.request.compute_s


def quantile(values: Sequence[float], share: float) -> float:
    """Quantile of `values` by nearest rank; NaN if there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan
