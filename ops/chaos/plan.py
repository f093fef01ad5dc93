"""The schedule of faults, decided by a seed before anything runs.

Pure: no clock, no processes. Equal seeds make equal schedules; what a fault strikes depends on the run.
"""

import random
from collections.abc import Sequence

from ops.chaos.faults import KINDS, Fault, FaultKind


def counts(num_faults: int, kinds: Sequence[str]) -> dict[str, int]:
    """Number of faults per kind: in proportion to the weights, one of each at least if `num_faults` allows it."""
    weights = {kind: KINDS[kind].weight for kind in kinds}
    if num_faults < len(weights):
        heaviest = sorted(weights, key=lambda kind: -weights[kind])[:num_faults]
        return dict.fromkeys(heaviest, 1)
    whole = sum(weights.values())
    exact = {kind: max(1.0, num_faults * weight / whole) for kind, weight in weights.items()}
    counted = {kind: int(share) for kind, share in exact.items()}
    rest = num_faults - sum(counted.values())
    by_remainder = sorted(exact, key=lambda kind: counted[kind] - exact[kind])
    for kind in by_remainder[: max(0, rest)]:
        counted[kind] += 1
    for kind in sorted(counted, key=lambda kind: -counted[kind])[:1]:
        counted[kind] += min(0, rest)
    return counted


def schedule(seed: int, num_faults: int, duration_s: float, ack_wait_s: float, kinds: Sequence[str]) -> list[Fault]:
    """All faults, ascending by `at_s`, at random times within `duration_s`: they may overlap."""
    rng = random.Random(f"faults {seed}")
    drawn = [kind for kind, count in counts(num_faults, kinds).items() for _ in range(count)]
    rng.shuffle(drawn)
    times = sorted(rng.uniform(0, duration_s) for _ in drawn)
    return [_draw(rng, at_s, KINDS[kind], ack_wait_s) for at_s, kind in zip(times, drawn, strict=True)]


def _draw(rng: random.Random, at_s: float, kind: FaultKind, ack_wait_s: float) -> Fault:
    pick, whole = rng.random(), rng.random() < 0.5
    least_s, most_s = kind.span_s(ack_wait_s)
    return Fault(round(at_s, 3), kind.name, pick, round(rng.uniform(least_s, most_s), 3), whole)
