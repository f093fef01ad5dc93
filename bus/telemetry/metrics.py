"""Metrics as Prometheus reads them. Only this module imports prometheus_client.

`bus/telemetry/metric_table.py` lists the metrics.

metrics = Metrics("gateway", looked)
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

from bus.telemetry.logging import heard
from bus.telemetry.metric_table import COUNTED, METRICS, Counted, Process

#: Of `text`.
CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

# When each series began is of no use to us, and would double their number.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


class Sample(NamedTuple):
    """How a metric of the table stands; `labels` in the table's order."""

    metric: str
    value: float
    labels: tuple[str, ...] = ()


class Metrics:
    """Those of one process. Its counters may be read from any thread; `looked` is called by whoever reads."""

    def __init__(self, process: Process, looked: Callable[[], Iterable[Sample]]) -> None:
        """`looked` tells how everything stands that no event counts: metrics of this process alone."""
        self._registry = CollectorRegistry()
        self._moved: dict[str, Any] = {}
        self._rules = [rule for rule in COUNTED if METRICS[rule.metric].by == process]
        for name in dict.fromkeys(rule.metric for rule in self._rules):
            self._moved[name] = self._made(name)
        for rule in self._rules:
            if rule.fixed and len(rule.fixed) == len(METRICS[rule.metric].labels):
                # There from the beginning, at 0: what appears at 1 has not increased, to Prometheus.
                self._moved[rule.metric].labels(**dict(rule.fixed))
        self._registry.register(_Looked(looked))
        ProcessCollector(registry=self._registry)

    def _made(self, name: str) -> Counter | Histogram:
        told = METRICS[name]
        if told.kind == "histogram":
            return Histogram(name, told.meaning, told.labels, buckets=told.buckets, registry=self._registry)
        return Counter(name, told.meaning, told.labels, registry=self._registry)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what this process logs, below its log level too, for the length of the block."""
        with ExitStack() as stack:
            for rule in self._rules:
                stack.enter_context(heard(rule.event, self._mover(rule)))
            yield

    def _mover(self, rule: Counted) -> Callable[[Mapping[str, object]], None]:
        moved, fixed, labels = self._moved[rule.metric], dict(rule.fixed), METRICS[rule.metric].labels
        is_counter = METRICS[rule.metric].kind == "counter"

        def move(fields: Mapping[str, object]) -> None:
            amount: Any = fields[rule.amount] if rule.amount else 1
            if amount is None:
                return
            one = moved.labels(*(fixed.get(label) or fields[label] for label in labels)) if labels else moved
            if is_counter:
                one.inc(amount)
            else:
                one.observe(amount)

        return move

    def text(self) -> bytes:
        """All of it in Prometheus' text format 0.0.4. Raises what `looked` does."""
        return generate_latest(self._registry)

    def serve(self, host: str, port: int) -> tuple[int, Callable[[], None]]:
        """Answer `GET /metrics`, and any other path, from a thread of prometheus_client's; (the port, how to end it).

        Blocking, both; port 0 is any free one. Raises OSError if the address cannot be bound.
        """
        server, thread = prometheus_client.start_http_server(port, host, self._registry)

        def close() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return int(server.server_port), close


class _Looked:
    """A collector of gauges, and of counters that are kept elsewhere."""

    def __init__(self, looked: Callable[[], Iterable[Sample]]) -> None:
        self._looked = looked

    def describe(self) -> Iterable[Metric]:
        """Nothing: so that registering does not look."""
        return ()

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Any] = {}
        for sample in self._looked():
            told = METRICS[sample.metric]
            kind = GaugeMetricFamily if told.kind == "gauge" else CounterMetricFamily
            if sample.metric not in families:
                families[sample.metric] = kind(sample.metric, told.meaning, labels=told.labels)
            families[sample.metric].add_metric(sample.labels, sample.value)
        return families.values()
