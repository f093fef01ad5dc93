"""Alerts speak of metrics that there are, with labels they have, and say what to do; promtool tells when each fires."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bus.telemetry.metric_table import METRICS

FOLDER = Path(__file__).parents[4] / "ops" / "deploy" / "prometheus"
#: Made by Prometheus and by node_exporter.
FOREIGN = {"up", "node_filesystem_avail_bytes", "node_filesystem_size_bytes"}
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
SERIES = re.compile(r"\b((?:antiphon|node|process)_\w+|up)\b(?:\{([^}]*)\})?")
#: What Prometheus adds to every series.
ADDED = {"instance", "job"}
OF_HISTOGRAM = re.compile(r"_(bucket|count|sum)$")


def metric_of(series: str) -> str:
    base = OF_HISTOGRAM.sub("", series)
    return base if base in METRICS and METRICS[base].kind == "histogram" else series


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_an_alert_speaks_of_what_there_is_and_says_what_to_do(rule: dict[str, Any]) -> None:
    found = SERIES.findall(rule["expr"])
    assert found
    for series, matchers in found:
        if series in FOREIGN:
            continue
        metric = METRICS[metric_of(series)]
        extra = {"le"} if series.endswith("_bucket") else set()
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        assert labels <= {*metric.labels, *ADDED, *extra}
    for grouped in re.findall(r"\bby \(([^)]*)\)", rule["expr"]):
        known = {label for series, _ in found if series not in FOREIGN for label in METRICS[metric_of(series)].labels}
        assert set(re.split(r",\s*", grouped)) <= known | {"le"}
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert {"summary", "do"} <= set(rule["annotations"])
    assert len(rule["annotations"]["do"].split()) > 8


def test_an_alert_of_what_there_is_not_would_be_found() -> None:
    assert metric_of("antiphon_first_audio_seconds_bucket") == "antiphon_first_audio_seconds"
    assert metric_of("antiphon_takeovers_bucket") not in METRICS
    assert SERIES.findall("sum(antiphon_nothing{a='b'}) > up") == [("antiphon_nothing", "a='b'"), ("up", "")]


def test_every_alert_is_once_expected_to_fire() -> None:
    expected = set(re.findall(r'alertname="?(\w+)', (FOLDER / "alerts_test.yml").read_text()))
    assert expected == {rule["alert"] for rule in RULES}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, of Debian's package prometheus, is not here")
def test_promtool_finds_every_alert_firing_when_it_should_and_not_before() -> None:
    for argv in (["check", "config", "prometheus.yml"], ["test", "rules", "alerts_test.yml"]):
        run = subprocess.run(["promtool", *argv], cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False)
        assert run.returncode == 0, run.stdout + run.stderr
