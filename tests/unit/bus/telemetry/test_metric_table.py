"""Metrics are an API: each is counted from events with enough fields, or read as a gauge; labels have few values."""

import ast
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest

from bus.fleet.messages import Heartbeat
from bus.telemetry.events import EVENTS
from bus.telemetry.metric_table import COUNTED, METRICS, Counted
from bus.telemetry.metrics import Metrics, Sample
from gpuworker.worker.metrics import samples
from tests.unit.bus.telemetry.test_events import logged

ROOT = Path(__file__).parents[4]
#: Names whose number has no limit.
UNBOUNDED = {"tenant", "job", "key", "account", "address", "worker", "path", "request", "error", "voice", "boot"}
#: Fields with few values: the fleet's models, the lanes, our own states, statuses and codes.
FEW = {
    *("model", "version", "lane", "outcome", "why", "limit", "status", "code", "event", "api", "result", "state"),
    *("stream", "pool", "part", "reason", "flag"),
}
CALLS = list(logged())
COUNTED_IDS = [f"{rule.event} {rule.metric}" for rule in COUNTED]


def needs(rule: Counted) -> set[str]:
    """Fields of its event that a rule reads."""
    labels = set(METRICS[rule.metric].labels) - {name for name, _ in rule.fixed}
    return labels | ({rule.amount} if rule.amount else set())


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_named_by_the_rules_of_prometheus(name: str) -> None:
    metric = METRICS[name]
    assert re.fullmatch(r"antiphon(_[a-z]+)+", name)
    assert name.endswith("_total") == (metric.kind == "counter")
    assert bool(metric.buckets) == (metric.kind == "histogram")
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert set(metric.labels) <= FEW
    assert not set(metric.labels) & UNBOUNDED


@pytest.mark.parametrize("rule", COUNTED, ids=COUNTED_IDS)
def test_every_call_that_logs_a_counted_event_has_the_fields_of_its_metric(rule: Counted) -> None:
    assert needs(rule) <= set(EVENTS[rule.event].fields)
    calls = [(place, fields) for place, event, fields in CALLS if event == rule.event]
    assert calls
    assert [place for place, fields in calls if not needs(rule) <= fields] == []


@pytest.mark.parametrize("rule", COUNTED, ids=COUNTED_IDS)
def test_a_counted_event_is_logged_in_the_process_that_shows_its_metric(rule: Counted) -> None:
    package = {"gateway": "gateway", "worker": "gpuworker"}[METRICS[rule.metric].by]
    host = {"gpuworker/host/main.py", "gpuworker/host/group.py", "gpuworker/host/schedule.py"}
    places = [place.partition(":")[0] for place, event, _ in CALLS if event == rule.event]
    assert [place for place in places if place.partition("/")[0] not in {"bus", package} or place in host] == []


def test_the_gauges_of_the_table_are_the_ones_that_are_read() -> None:
    exported = {
        node.args[0].value
        for path in ("gateway/api/metrics.py", "gpuworker/worker/metrics.py")
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Sample" and isinstance(node.args[0], ast.Constant)
    }
    assert exported == set(METRICS) - {rule.metric for rule in COUNTED}


def test_a_counter_with_known_labels_begins_at_zero() -> None:
    text = Metrics("gateway", list).text().decode()
    assert 'antiphon_faults_total{event="http.failed"} 0.0' in text
    assert 'antiphon_webhooks_total{outcome="dead_lettered"} 0.0' in text
    assert "antiphon_takeovers_total 0.0" in text
    assert "antiphon_blocks_total" not in text, "a worker's"
    assert "_created" not in text


def test_a_gauge_is_exported_with_its_labels() -> None:
    samples = [Sample("antiphon_workers", 2, ("ready",)), Sample("antiphon_cache_answers_total", 5, ("hit",))]
    text = Metrics("gateway", lambda: samples).text().decode()
    assert 'antiphon_workers{state="ready"} 2.0' in text
    assert 'antiphon_cache_answers_total{result="hit"} 5.0' in text


@pytest.mark.parametrize("held", [None, 5 << 30])
def test_device_memory_is_exported_only_if_the_host_reports_it(held: int | None) -> None:
    beat = Heartbeat(
        id="w1", boot="b", pid=1, host="h", state="ready", models=[], cards="", slots=2, held=[], device_bytes=held
    )
    host = SimpleNamespace(is_up=False, pid=None, models=SimpleNamespace(loaded=set()))
    worker = SimpleNamespace(
        heartbeat=lambda: beat, host=host, models=[], runs={}, patrols=SimpleNamespace(spent_s=0.0)
    )
    exported = {sample.metric: sample.value for sample in samples(worker)}
    assert exported.get("antiphon_device_bytes") == held
    assert "antiphon_host_resident_bytes" not in exported, "there is no host"


def test_metrics_are_served_on_a_port_that_is_closed_afterwards() -> None:
    port, close = Metrics("worker", list).serve("127.0.0.1", 0)
    url = f"http://127.0.0.1:{port}/metrics"
    with urllib.request.urlopen(url, timeout=20) as answer:
        assert b"antiphon_stalls_total 0.0" in answer.read()
    close()
    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(url, timeout=20)


COUNTS = """
from bus.telemetry.metrics import Metrics
from bus.telemetry.logging import configure, logger
log = logger("a.module")
metrics = Metrics("gateway", list)
log.debug("takeover.started")
configure("gateway", form="json", level="error")
log.debug("takeover.started")
with metrics.counting():
    log.debug("takeover.started")
    log.info("takeover.started")
    log.error("takeover.started")
    log.exception("http.failed")
    log.debug("audio.started", model="tone", lane="batch", after_s=0.25)
    log.debug("audio.started", model="tone", lane="batch", after_s=None)
    log.info("retention.purged", logs=7)
    log.info("job.stalled")
log.debug("takeover.started")
print(metrics.text().decode())
"""


def test_events_are_counted_within_the_block_whatever_the_level_and_logged_by_the_level() -> None:
    run = subprocess.run(
        [sys.executable, "-c", COUNTS], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    counted = set(run.stdout.splitlines())
    assert {
        "antiphon_takeovers_total 3.0",
        'antiphon_faults_total{event="http.failed"} 1.0',
        'antiphon_first_audio_seconds_count{lane="batch",model="tone"} 1.0',
        'antiphon_first_audio_seconds_sum{lane="batch",model="tone"} 0.25',
        'antiphon_first_audio_seconds_bucket{lane="batch",le="0.2",model="tone"} 0.0',
        'antiphon_first_audio_seconds_bucket{lane="batch",le="0.5",model="tone"} 1.0',
        "antiphon_logs_purged_total 7.0",
    } <= counted
    levels = re.findall(r'"level": ?"(\w+)"', run.stderr)
    assert levels == ["error", "error"]
