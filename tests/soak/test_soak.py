"""Runs that are too long for CI, by hand with `make soak`. Their figures are printed, for the closing note of a change."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.soak


def antiphon(*argv: str, timeout_s: float) -> Any:
    """What a command of ours answers in JSON; it is printed too."""
    run = subprocess.run(
        [sys.executable, "-m", "ops.cli.main", *argv, "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    print(run.stdout)
    assert run.returncode == 0, run.stdout
    return json.loads(run.stdout)


@pytest.mark.parametrize(
    "flags",
    [
        ["--faults", "200", "--minutes", "9"],
        ["--nats-nodes", "3", "--faults", "200", "--minutes", "12", "--ack-wait-s", "12"],
    ],
    ids=["one nats-server", "cluster"],
)
def test_two_hundred_faults_lose_nothing(tmp_path: Path, flags: list[str]) -> None:
    report = antiphon("chaos", *flags, "--seed", "8", "--state", str(tmp_path), timeout_s=3600)
    assert report["good"]
    assert sum(report["faults"].values()) == 200


def test_memory_stays_flat_over_an_hour(tmp_path: Path) -> None:
    assert antiphon("soak", "--minutes", "60", "--state", str(tmp_path), timeout_s=7200)["good"]


def test_every_scenario_of_the_benchmark_is_answered_right() -> None:
    rows = antiphon("bench", "--rounds", "3", timeout_s=3600)
    assert {row["target"] for row in rows} == {"floor", "antiphon"}
    assert [row for row in rows if row["result"]["failed"]] == []
