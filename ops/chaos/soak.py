"""`antiphon soak`: steady load with clients that hang up, and no fault; memory and descriptors must stay flat."""

import asyncio
import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ops.chaos import leaks
from ops.chaos.live_stack import LiveStack, print_status, ready
from ops.chaos.nodes import NATS
from ops.chaos.report import Report
from ops.chaos.requests import Requests
from ops.chaos.run import START_SETTLE_S, clients_of, crashes, judge, load
from ops.chaos.settling import at_rest, drained, leaks_since
from ops.chaos.stack import StackSpec
from ops.chaos.svg import Curve, chart

_SAMPLE_EVERY_S: Final = 5.0
#: Memory is compared with its mean in the second fifth of the run, when caches and pools have filled.
_WARM_SHARE: Final = 0.2
_MAX_GROWTH: Final = 1.10
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """The resources of one process, `at_s` seconds after the start of the load."""

    at_s: float
    name: str
    rss_bytes: int
    descriptors: int


@dataclass(frozen=True, slots=True)
class SoakResult:
    """The report of a soak, its samples, and by process the factor by which its memory grew."""

    report: Report
    samples: Sequence[Sample]
    growth: dict[str, float]

    @property
    def grown(self) -> list[str]:
        """One line for each process of ours whose memory grew by more than a tenth.

        nats-server is plotted but not judged: its index grows with the messages that it stores, until retention ends.
        """
        return [
            f"{name}: RSS grew by {100 * (growth - 1):.0f} %"
            for name, growth in self.growth.items()
            if growth > _MAX_GROWTH and name != NATS
        ]

    @property
    def is_good(self) -> bool:
        """Whether memory stayed flat and nothing was lost or leaked."""
        return self.report.is_good and not self.grown

    def as_json(self) -> dict[str, Any]:
        """The report, with the growth of each process."""
        growth = {name: round(growth, 3) for name, growth in self.growth.items()}
        return {**self.report.as_json(), "good": self.is_good, "rss_growth": growth}


async def soak(
    seed: int, duration_s: float, streams: int, settle_s: float, spec: StackSpec, folder: Path
) -> SoakResult:
    """Load a stack for `duration_s` seconds. Raises OpsError if the stack does not come up."""
    async with ready(spec, folder) as live:
        before = await at_rest(live, START_SETTLE_S)
        clients = clients_of(live, f"soak-{seed}")
        requests, over, samples = Requests(seed, spec.models), asyncio.Event(), list[Sample]()
        print_status(f"{streams} clients for {duration_s:.0f} s, seed {seed}")
        async with asyncio.TaskGroup() as group:
            for _ in range(streams):
                group.create_task(load(clients, requests, over))
            await _sample(live, duration_s, samples)
            over.set()
        await drained(live)
        leaked = await leaks_since(live, before, settle_s)
        report = await judge(live, clients, None, Report(seed, duration_s / 60))
        report.leaks = leaked
        report.slots_leaked = live.monitor.held()
    report.crashes = crashes(live.stack)
    return SoakResult(report, samples, growth(samples, duration_s))


async def _sample(live: LiveStack, duration_s: float, samples: list[Sample]) -> None:
    began = time.monotonic()
    while (at_s := time.monotonic() - began) < duration_s:
        for process in live.stack.processes:
            if process.pid is not None:
                usage = await asyncio.to_thread(leaks.usage_of, process.pid)
                samples.append(Sample(round(at_s, 1), process.name, usage.rss_bytes, usage.descriptors))
        await asyncio.sleep(_SAMPLE_EVERY_S)


def growth(samples: Sequence[Sample], duration_s: float) -> dict[str, float]:
    """By process: mean RSS of the last fifth of the run, divided by the mean of the second fifth."""
    found = {}
    for name in dict.fromkeys(sample.name for sample in samples):
        of_it = [sample for sample in samples if sample.name == name]
        warm = [s.rss_bytes for s in of_it if _WARM_SHARE <= s.at_s / duration_s < 2 * _WARM_SHARE]
        late = [s.rss_bytes for s in of_it if s.at_s / duration_s >= 1 - _WARM_SHARE]
        if warm and late:
            found[name] = (sum(late) / len(late)) / (sum(warm) / len(warm))
    return found


def write(result: SoakResult, folder: Path) -> None:
    """Write the samples to `soak.csv` and their plot to `soak.svg`."""
    with (folder / "soak.csv").open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["at_s", "process", "rss_bytes", "descriptors"])
        rows.writerows([s.at_s, s.name, s.rss_bytes, s.descriptors] for s in result.samples)
    names = list(dict.fromkeys(sample.name for sample in result.samples))
    by_name = {name: [sample for sample in result.samples if sample.name == name] for name in names}
    memory = [Curve(name, [(s.at_s / 60, s.rss_bytes / _MIB) for s in by_name[name]]) for name in names]
    open_files = [Curve(name, [(s.at_s / 60, float(s.descriptors)) for s in by_name[name]]) for name in names]
    panels = [("resident memory, MiB", memory), ("descriptors", open_files)]
    (folder / "soak.svg").write_text(chart(panels, "minutes"))
