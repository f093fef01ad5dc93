"""`antiphon bench`: the floor and a stack of its own in turn, round by round; only ratios within a round compare."""

import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ops.bench.cost import cpu_s, family
from ops.bench.load import SCENARIOS, Result, Scenario, measure
from ops.bench.own_stack import own_stack

_WARM = Scenario(name="warm", description="not counted", clients=50, requests=100, blocks=3)


class Target(msgspec.Struct, frozen=True):
    """A running server to measure."""

    name: str
    url: str
    pid: int


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one scenario in one round."""

    round: int
    target: str
    scenario: str
    result: Result
    #: CPU time of all processes of the target, per good request.
    cpu_ms: float


@contextmanager
def _floor() -> Iterator[Target]:
    with subprocess.Popen([sys.executable, "-m", "ops.bench.floor"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Target("floor", f"http://127.0.0.1:{process.stdout.readline().strip()}", process.pid)
        finally:
            process.kill()


@contextmanager
def _stack() -> Iterator[Target]:
    with (
        tempfile.TemporaryDirectory(prefix="antiphon-bench-") as folder,
        own_stack(Path(folder), ("--models", "tone", "--slots", "1024")) as stack,
    ):
        yield Target("antiphon", stack.http, stack.pid)


def run(rounds: int) -> list[Row]:
    """Measure `rounds` rounds. Each round starts every target again and warms it up."""
    rows: list[Row] = []
    for number in range(rounds):
        for start in (_floor, _stack):
            with start() as target:
                rows += asyncio.run(_round(number, target))
    return rows


async def _round(number: int, target: Target) -> list[Row]:
    await measure(target.url, _WARM)
    rows = []
    for scenario in SCENARIOS:
        pids = family(target.pid)
        before = cpu_s(pids)
        result = await measure(target.url, scenario)
        cpu_ms = 1000 * (cpu_s(pids) - before) / max(1, result.ok)
        rows.append(Row(round=number, target=target.name, scenario=scenario.name, result=result, cpu_ms=cpu_ms))
        sys.stderr.write(f"{number} {target.name} {scenario.name}: {result}\n")
    return rows


def table(rows: list[Row]) -> str:
    """Markdown: medians over the rounds, and medians of the ratios to the floor of the same round."""
    when = datetime.now(UTC).date().isoformat()
    rounds = 1 + max(row.round for row in rows)
    text = (
        f"{when}, {rounds} round{'s' if rounds > 1 else ''}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, {platform.machine()}\n"
    )
    columns = ("rate", "first_p50_ms", "first_p99_ms", "total_p50_ms")
    for scenario in SCENARIOS:
        text += f"\n**{scenario.name}**: {scenario.description}\n\n"
        text += "| target | requests/s | first audio p50 ms | p99 ms | total p50 ms | server CPU ms | dry | failed |\n"
        text += "| --- | --: | --: | --: | --: | --: | --: | --: |\n"
        for target in dict.fromkeys(row.target for row in rows):
            mine = _of(rows, target, scenario)
            base = _of(rows, "floor", scenario)
            cells = [_cell([getattr(r.result, c) for r in mine], [getattr(r.result, c) for r in base]) for c in columns]
            cells.append(_cell([row.cpu_ms for row in mine], [row.cpu_ms for row in base]))
            dry = statistics.median(row.result.dry for row in mine)
            text += f"| {target} | {' | '.join(cells)} | {dry:.0%} | {sum(row.result.failed for row in mine)} |\n"
        added = [
            mine.result.first_p50_ms - base.result.first_p50_ms
            for mine, base in zip(_of(rows, "antiphon", scenario), _of(rows, "floor", scenario), strict=True)
        ]
        text += f"\nadded time to first audio over the floor, p50: {statistics.median(added):.2f} ms\n"
    return text


def _of(rows: list[Row], target: str, scenario: Scenario) -> list[Row]:
    return [row for row in rows if (row.target, row.scenario) == (target, scenario.name)]


def _cell(values: list[float], base: list[float]) -> str:
    ratios = [value / floor for value, floor in zip(values, base, strict=True) if floor]
    ratio = f" (x{statistics.median(ratios):.2f})" if ratios else ""
    return f"{statistics.median(values):.2f}{ratio}"


def report(rows: list[Row], *, as_json: bool) -> str:
    """The rows as JSON, or their medians as Markdown."""
    plain: Any = msgspec.to_builtins(rows)
    return json.dumps(plain) if as_json else table(rows)
