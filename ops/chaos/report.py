"""The result of a run: a table for people, JSON for programs, and whether it was good."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

from ops.chaos.injector import Injection
from ops.chaos.ledger import Damage, Harm
from ops.chaos.takeover import Takeover, quantile

#: Damages that the error message lists.
_MAX_SHOWN = 20


@dataclass(slots=True)
class Report:
    """The figures of a run, filled when it is over."""

    seed: int
    minutes: float
    #: Requests that clients sent.
    requests: int = 0
    #: Jobs that were accepted: their logs have a birth.
    jobs: int = 0
    #: Jobs of the flooding tenant among them.
    flooded: int = 0
    #: Number of jobs by the kind of their end.
    ends: dict[str, int] = field(default_factory=dict)
    #: Audio that clients received and compared with the reference.
    audio_s: float = 0.0
    #: Reconnects of clients.
    resumed: int = 0
    longest_silence_s: float = 0.0
    injections: Sequence[Injection] = ()
    #: Planned faults that found no target, one line each.
    not_injected: Sequence[str] = ()
    damages: Sequence[Damage] = ()
    takeovers: Sequence[Takeover] = ()
    #: Jobs that workers still hold after all have ended.
    slots_leaked: int = 0
    leaks: Sequence[str] = ()
    #: Processes that exited without a fault, and children that outlived them, one line each.
    crashes: Sequence[str] = ()

    def count(self, harm: Harm) -> int:
        """Number of jobs with this kind of damage."""
        return len({damage.job for damage in self.damages if damage.what == harm})

    @property
    def faults(self) -> dict[str, int]:
        """Number of injected faults by kind, the most frequent first."""
        return dict(Counter(injection.kind for injection in self.injections).most_common())

    @property
    def is_good(self) -> bool:
        """Whether nothing was damaged, leaked or crashed, and every planned fault was injected."""
        return (
            not self.damages and not self.slots_leaked and not self.leaks and not self.crashes and not self.not_injected
        )

    def silence(self, *, undisturbed: bool) -> dict[str, float]:
        """Quantiles of the silence after a worker kill in seconds, and the number of streams that they are of."""
        some = [each.silence_s for each in self.takeovers if each.undisturbed or not undisturbed]
        shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
        return {"streams": len(some), **{name: round(quantile(some, share), 3) for name, share in shares.items()}}

    def as_json(self) -> dict[str, Any]:
        """The report as `--json` prints it."""
        return {
            "good": self.is_good,
            "seed": self.seed,
            "minutes": round(self.minutes, 2),
            "requests": self.requests,
            "jobs": self.jobs,
            "flooded": self.flooded,
            "ends": self.ends,
            "audio_s": round(self.audio_s, 1),
            "faults": self.faults,
            "lost": self.count("lost"),
            "wrong": self.count("wrong"),
            "doubled": self.count("doubled"),
            "takeover_s": self.silence(undisturbed=True),
            "takeover_disturbed_s": self.silence(undisturbed=False),
            "resumed": self.resumed,
            "longest_silence_s": round(self.longest_silence_s, 3),
            "slots_leaked": self.slots_leaked,
            "leaks": list(self.leaks),
            "crashes": list(self.crashes),
            "not_injected": list(self.not_injected),
            "damages": [asdict(damage) for damage in self.damages],
        }


def timeline(report: Report) -> dict[str, Any]:
    """Every fault as it was injected, and every takeover, for `report.json`."""
    return {
        "injections": [asdict(injection) for injection in report.injections],
        "takeovers": [asdict(takeover) for takeover in report.takeovers],
    }


def table(report: Report) -> str:
    """The report as a Markdown table, in the form of docs/benchmarks.md."""
    faults = report.faults
    rows = [
        ("seed, minutes under load", f"{report.seed}, {report.minutes:.1f}"),
        ("requests; jobs accepted", f"{report.requests}; {report.jobs}, {report.flooded} of them of the flood"),
        ("how they ended", ", ".join(f"{count} {end}" for end, count in report.ends.items())),
        ("audio received and checked", f"{report.audio_s / 60:.1f} min"),
        (f"faults: {sum(faults.values())}", ", ".join(f"{count} {kind}" for kind, count in faults.items())),
        ("lost / wrong / doubled", " / ".join(str(report.count(harm)) for harm in get_args(Harm))),
        ("worker kill to next block, one fault at a time", _spread(report.silence(undisturbed=True))),
        ("worker kill to next block, all", _spread(report.silence(undisturbed=False))),
        ("clients cut off that resumed", str(report.resumed)),
        ("longest silence of any stream", f"{report.longest_silence_s:.1f} s"),
        ("slots leaked", str(report.slots_leaked)),
        ("leaks", "; ".join(report.leaks) or "none"),
        ("processes that exited by themselves", "; ".join(report.crashes) or "none"),
    ]
    width = max(len(name) for name, _ in rows)
    head = [f"| {'figure':<{width}} | value |", f"| {'-' * width} | --- |"]
    return "\n".join([*head, *(f"| {name:<{width}} | {value} |" for name, value in rows)])


def details(report: Report) -> str:
    """Why a run is not good, one reason per line, only the first damages; empty if it is good."""
    lines = [f"{damage.what}: {damage.job}: {damage.detail}" for damage in report.damages[:_MAX_SHOWN]]
    if len(report.damages) > _MAX_SHOWN:
        lines.append(f"… and {len(report.damages) - _MAX_SHOWN} more")
    if report.slots_leaked:
        lines.append(f"leaked: {report.slots_leaked} slots")
    lines += [f"leaked: {leak}" for leak in report.leaks]
    lines += [f"crashed: {crash}" for crash in report.crashes]
    return "\n".join([*lines, *(f"not injected: {fault}" for fault in report.not_injected)])


def _spread(silence: dict[str, float]) -> str:
    if not silence["streams"]:
        return "no stream was hit"
    p50, p99, most = (f"{1000 * silence[name]:.0f}" for name in ("p50", "p99", "max"))
    return f"p50 {p50} ms, p99 {p99} ms, max {most} ms ({silence['streams']} streams)"
