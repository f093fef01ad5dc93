"""`antiphon bench isolation` as a user runs it, for the pool that is flooded fastest."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_one_pool_is_flooded_and_the_other_tenant_is_measured() -> None:
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "ops.cli.main",
            "bench",
            "isolation",
            "--pools",
            "queue",
            "--rounds",
            "1",
            "--seconds",
            "3",
            "--json",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    (row,) = json.loads(run.stdout)
    assert row["pool"] == "queue"
    assert len(row["control"]["first_s"]) > 5
    assert row["control"]["failed"] == 0
    # Eight MiB of queue are full within the measurement: the flood itself is refused.
    assert row["refused"] > 0
    assert (row["flooded"]["failed"], row["flooded"]["purged"]) == (0, 0)
