"""Two minutes of `antiphon chaos`, as a user runs it: nothing is lost, wrong or doubled, and nothing leaks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ops.chaos.faults import default_kinds

ROOT = Path(__file__).parents[2]


@pytest.mark.chaos
def test_two_minutes_of_every_fault_lose_nothing(tmp_path: Path) -> None:
    flags = ["--faults", "40", "--minutes", "2", "--seed", "7", "--settle-s", "10", "--state", str(tmp_path), "--json"]
    run = subprocess.run(
        [sys.executable, "-m", "ops.cli.main", "chaos", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    report = json.loads(run.stdout)
    assert (report["lost"], report["wrong"], report["doubled"]) == (0, 0, 0)
    assert (report["slots_leaked"], report["leaks"], report["crashes"]) == (0, [], [])
    assert sum(report["faults"].values()) == 40
    assert set(report["faults"]) == set(default_kinds())
    assert report["jobs"] > 50
    assert report["takeover_disturbed_s"]["streams"] > 0
