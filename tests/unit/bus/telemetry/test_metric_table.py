"""Metrics are an API: each is counted from events that tell enough, or looked at; no label can grow without end."""

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
#: Names that only people outside know all of.
UNBOUNDED = {"tenant", "job", "key", "account", "address", "worker", "path", "request", "error", "voice", "boot"}
#: Fields whose values are as few as the fleet's models, the lanes, our own words, statuses and codes.
FEW = {
    *("model", "version", "lane", "outcome", "why", "limit", "status", "code", "event", "api", "result", "state"),
    *("stream",),
}
CALLS = list(logged())
COUNTED_IDS = [f"{rule.event} {rule.metric}" for rule in COUNTED]


def needs(rule: Counted) -> set[str]:
    """Fields of its event that a rule reads."""
    labels = set(METRICS[rule.metric].labels) - {name for name, _ in rule.fixed}
    return labels | ({rule.amount} if rule.amount else set())


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_called_as_prometheus_has_it(name: str) -> None:
    metric = METRICS[name]
    assert re.fullmatch(r"antiphon(_[a-z]+)+", name)
    assert name.endswith("_total") == (metric.kind == "counter")
    assert bool(metric.buckets) == (metric.kind == "histogram")
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert set(metric.labels) <= FEW
    assert not set(metric.labels) & UNBOUNDED


@pytest.mark.parametrize("rule", COUNTED, ids=COUNTED_IDS)
def test_every_call_that_logs_a_counted_event_says_what_its_metric_needs(rule: Counted) -> None:
    assert needs(rule) <= set(EVENTS[rule.event].fields)
    calls = [(place, fields) for place, event, fields in CALLS if event == rule.event]
    assert calls
    assert [place for place, fields in calls if not needs(rule) <= fields] == []


@pytest.mark.parametrize("rule", COUNTED, ids=COUNTED_IDS)
def test_a_counted_event_is_logged_in_the_process_that_shows_its_metric(rule: Counted) -> None:
    package = {"gateway": "gateway", "worker": "gpuworker"}[METRICS[rule.metric].by]
    host = {"gpuworker/host/main.py", "gpuworker/host/group.py", "gpuworker/host/pcm.py", "gpuworker/host/schedule.py"}
    places = [place.partition(":")[0] for place, event, _ in CALLS if event == rule.event]
    assert [place for place in places if place.partition("/")[0] not in {"bus", package} or place in host] == []


def test_what_no_event_counts_is_looked_at_under_the_names_of_the_table() -> None:
    told = {
        node.args[0].value
        for path in ("gateway/api/metrics.py", "gpuworker/worker/metrics.py")
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Sample" and isinstance(node.args[0], ast.Constant)
    }
    assert told == set(METRICS) - {rule.metric for rule in COUNTED}


def test_what_can_be_there_from_the_beginning_is_there_at_zero() -> None:
    text = Metrics("gateway", list).text().decode()
    assert 'antiphon_faults_total{event="http.failed"} 0.0' in text
    assert 'antiphon_webhooks_total{outcome="dead_lettered"} 0.0' in text
    assert "antiphon_takeovers_total 0.0" in text
    assert "antiphon_blocks_total" not in text, "a worker's"
    assert "_created" not in text


def test_a_look_is_told_with_its_labels() -> None:
    samples = [Sample("antiphon_workers", 2, ("ready",)), Sample("antiphon_cache_answers_total", 5, ("hit",))]
    text = Metrics("gateway", lambda: samples).text().decode()
    assert 'antiphon_workers{state="ready"} 2.0' in text
    assert 'antiphon_cache_answers_total{result="hit"} 5.0' in text


@pytest.mark.parametrize("held", [None, 5 << 30])
def test_device_memory_is_told_where_the_host_tells_it_and_never_made_up(held: int | None) -> None:
    beat = Heartbeat(
        id="w1", boot="b", pid=1, host="h", state="ready", models=[], cards="", slots=2, held=[], device_bytes=held
    )
    host = SimpleNamespace(is_up=False, pid=None, models=SimpleNamespace(loaded=set()))
    told = {
        sample.metric: sample.value for sample in samples(SimpleNamespace(heartbeat=lambda: beat, host=host, models=[]))
    }
    assert told.get("antiphon_device_bytes") == held
    assert "antiphon_host_resident_bytes" not in told, "there is no host"


def test_what_is_served_is_read_from_a_port_that_is_closed_afterwards() -> None:
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


def test_events_count_whatever_the_level_while_somebody_counts_and_are_logged_as_the_level_says() -> None:
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
