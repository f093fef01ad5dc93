"""Metrics in Prometheus' format. Only this module imports prometheus_client.

`bus/telemetry/metric_table.py` lists the metrics.

    metrics = Metrics("gateway", read_gauges)
    with metrics.counting():    # log events move the counters from here on
        body = metrics.text()
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final, NamedTuple

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from bus.telemetry.logging import observed
from bus.telemetry.metric_table import COUNTED, METRICS, Counted, Process

#: Content-Type of `Metrics.text`.
CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

# A series for the creation time of each series would double their number, and we have no use for it.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


class Sample(NamedTuple):
    """The current value of a metric; `labels` in the order of the table."""

    metric: str
    value: float
    labels: tuple[str, ...] = ()


class Metrics:
    """The metrics of one process. They may be read from any thread; `read_gauges` runs in the thread that reads."""

    def __init__(self, process: Process, read_gauges: Callable[[], Iterable[Sample]]) -> None:
        """`read_gauges` returns all metrics of this process that no log event counts."""
        self._registry = CollectorRegistry()
        self._counted: dict[str, Any] = {}
        self._rules = [rule for rule in COUNTED if METRICS[rule.metric].by == process]
        for name in dict.fromkeys(rule.metric for rule in self._rules):
            self._counted[name] = self._make(name)
        for rule in self._rules:
            if rule.fixed and len(rule.fixed) == len(METRICS[rule.metric].labels):
                # Exported from the beginning, as 0: a series that appears as 1 has not increased for Prometheus.
                self._counted[rule.metric].labels(**dict(rule.fixed))
        self._registry.register(_GaugeCollector(read_gauges))
        ProcessCollector(registry=self._registry)

    def _make(self, name: str) -> Counter | Histogram:
        metric = METRICS[name]
        if metric.kind == "histogram":
            return Histogram(name, metric.meaning, metric.labels, buckets=metric.buckets, registry=self._registry)
        return Counter(name, metric.meaning, metric.labels, registry=self._registry)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the log events of this process within the block, below its log level too."""
        with ExitStack() as stack:
            for rule in self._rules:
                stack.enter_context(observed(rule.event, self._observer(rule)))
            yield

    def _observer(self, rule: Counted) -> Callable[[Mapping[str, object]], None]:
        counted, fixed, labels = self._counted[rule.metric], dict(rule.fixed), METRICS[rule.metric].labels
        is_counter = METRICS[rule.metric].kind == "counter"

        def observe(fields: Mapping[str, object]) -> None:
            amount: Any = fields[rule.amount] if rule.amount else 1
            if amount is None:
                return
            series = counted.labels(*(fixed.get(label) or fields[label] for label in labels)) if labels else counted
            if is_counter:
                series.inc(amount)
            else:
                series.observe(amount)

        return observe

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format 0.0.4. Raises as `read_gauges` does."""
        return generate_latest(self._registry)

    def serve(self, host: str, port: int) -> tuple[int, Callable[[], None]]:
        """Serve `GET /metrics`, and any other path, in a thread; return the port and a function that ends it.

        Both block for a moment. Port 0 is any free one. Raises OSError if the address cannot be bound.
        """
        server, thread = prometheus_client.start_http_server(port, host, self._registry)

        def close() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return int(server.server_port), close


class _GaugeCollector:
    """Collects gauges, and counters that are kept elsewhere, at each scrape."""

    def __init__(self, read_gauges: Callable[[], Iterable[Sample]]) -> None:
        self._read_gauges = read_gauges

    def describe(self) -> Iterable[Metric]:
        """Describe nothing, so that registering does not read the gauges."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Read the gauges."""
        families: dict[str, Any] = {}
        for sample in self._read_gauges():
            metric = METRICS[sample.metric]
            kind = GaugeMetricFamily if metric.kind == "gauge" else CounterMetricFamily
            if sample.metric not in families:
                families[sample.metric] = kind(sample.metric, metric.meaning, labels=metric.labels)
            families[sample.metric].add_metric(sample.labels, sample.value)
        return families.values()
