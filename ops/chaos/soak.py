"""`antiphon soak`: steady load with hang-ups and nothing killed; memory and descriptors must stay flat."""

import asyncio
import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ops.chaos import leaks
from ops.chaos.clients import Clients
from ops.chaos.nodes import NATS
from ops.chaos.orders import Orders
from ops.chaos.report import Report
from ops.chaos.run import Ground, at_rest, crashes, drained, judge, leaks_since, load, ready, say
from ops.chaos.stack import Size
from ops.chaos.svg import Curve, chart

_SAMPLE_EVERY_S: Final = 5.0
_PATIENCE_S: Final = 180.0
#: Memory is compared with what it was once caches and pools have filled: after this share of the run.
_WARM_SHARE: Final = 0.2
_MOST_GROWTH: Final = 1.10
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    at_s: float
    name: str
    rss_bytes: int
    descriptors: int


@dataclass(frozen=True, slots=True)
class Soaked:
    report: Report
    samples: Sequence[Sample]
    growth: dict[str, float]

    @property
    def too_much(self) -> list[str]:
        """Processes of ours whose memory grew by more than a tenth, in words.

        nats-server is drawn, not judged: it keeps an index of all that it stores, and stores until retention.
        """
        return [
            f"{name}: RSS grew by {100 * (growth - 1):.0f} %"
            for name, growth in self.growth.items()
            if growth > _MOST_GROWTH and name != NATS
        ]

    @property
    def is_good(self) -> bool:
        return self.report.is_good and not self.too_much

    def as_json(self) -> dict[str, Any]:
        growth = {name: round(growth, 3) for name, growth in self.growth.items()}
        return {**self.report.as_json(), "good": self.is_good, "rss_growth": growth}


async def soak(seed: int, duration_s: float, streams: int, settle_s: float, size: Size, folder: Path) -> Soaked:
    """Raises OpsError if the stack does not come up."""
    async with ready(size, folder) as ground:
        before = await at_rest(ground, 2.0)
        clients = Clients(ground.session, ground.stack.urls, f"soak-{seed}", ground.truths, _PATIENCE_S)
        orders, over, samples = Orders(seed, size.models), asyncio.Event(), list[Sample]()
        say(f"{streams} clients for {duration_s:.0f} s, seed {seed}")
        async with asyncio.TaskGroup() as group:
            for _ in range(streams):
                group.create_task(load(clients, orders, over))
            await _sample(ground, duration_s, samples)
            over.set()
        await drained(ground)
        leaked = await leaks_since(ground, before, settle_s)
        report = await judge(ground, clients, None, Report(seed, duration_s / 60))
        report.leaks, report.slots_leaked = leaked, ground.monitor.held()
    report.crashes = crashes(ground.stack)
    return Soaked(report, samples, growth(samples, duration_s))


async def _sample(ground: Ground, duration_s: float, samples: list[Sample]) -> None:
    began = time.monotonic()
    while (at_s := time.monotonic() - began) < duration_s:
        for process in ground.stack.processes:
            if process.pid is not None:
                held = await asyncio.to_thread(leaks.held_by, process.pid)
                samples.append(Sample(round(at_s, 1), process.name, held.rss_bytes, held.descriptors))
        await asyncio.sleep(_SAMPLE_EVERY_S)


def growth(samples: Sequence[Sample], duration_s: float) -> dict[str, float]:
    """By process: the mean RSS of the last fifth of the run over that of the fifth after it was warm."""
    found = {}
    for name in dict.fromkeys(sample.name for sample in samples):
        of_it = [sample for sample in samples if sample.name == name]
        warm = [s.rss_bytes for s in of_it if _WARM_SHARE <= s.at_s / duration_s < 2 * _WARM_SHARE]
        late = [s.rss_bytes for s in of_it if s.at_s / duration_s >= 1 - _WARM_SHARE]
        if warm and late:
            found[name] = (sum(late) / len(late)) / (sum(warm) / len(warm))
    return found


def write(soaked: Soaked, folder: Path) -> None:
    """`soak.csv` and `soak.svg`."""
    with (folder / "soak.csv").open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["at_s", "process", "rss_bytes", "descriptors"])
        rows.writerows([s.at_s, s.name, s.rss_bytes, s.descriptors] for s in soaked.samples)
    names = list(dict.fromkeys(sample.name for sample in soaked.samples))
    by_name = {name: [sample for sample in soaked.samples if sample.name == name] for name in names}
    memory = [Curve(name, [(s.at_s / 60, s.rss_bytes / _MIB) for s in by_name[name]]) for name in names]
    open_files = [Curve(name, [(s.at_s / 60, float(s.descriptors)) for s in by_name[name]]) for name in names]
    panels = [("resident memory, MiB", memory), ("descriptors", open_files)]
    (folder / "soak.svg").write_text(chart(panels, "minutes"))
