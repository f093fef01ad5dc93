"""Generated parts of docs/: `make docs` writes them, a test compares them with the code."""

from pathlib import Path

from bus.telemetry.events import EVENTS
from bus.telemetry.metric_table import COUNTED, METRICS, Process


def telemetry_page(page: str) -> str:
    """`page` with the tables of events and metrics from the code. Raises ValueError if a mark around one is gone."""
    page = _between(page, "events", "bus/telemetry/events.py", _events())
    page = _between(page, "metrics of a gateway", "bus/telemetry/metric_table.py", _metrics("gateway"))
    return _between(page, "metrics of a worker", "bus/telemetry/metric_table.py", _metrics("worker"))


def _between(page: str, topic: str, source: str, table: str) -> str:
    before, begin, rest = page.partition(f"<!-- {topic}: made by `make docs` from {source} -->\n")
    _, end, after = rest.partition(f"<!-- end of {topic} -->\n")
    if not (begin and end):
        raise ValueError(f"docs/telemetry.md has lost the marks around its table of {topic}")
    return f"{before}{begin}\n{table}\n\n{end}{after}"


def _events() -> str:
    rows = [f"| `{name}` | {event.meaning} | {_names(event.fields)} |" for name, event in EVENTS.items()]
    return "\n".join(["| event | what it means | fields |", "| --- | --- | --- |", *rows])


def _metrics(by: Process) -> str:
    rows = [
        f"| `{name}` | {metric.kind} | {metric.meaning} | {_names(metric.labels)} | {_names(_events_of(name))} |"
        for name, metric in METRICS.items()
        if metric.by == by
    ]
    head = ["| metric | kind | what it means | labels | counted from |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*head, *rows])


def _events_of(metric: str) -> tuple[str, ...]:
    return tuple(rule.event for rule in COUNTED if rule.metric == metric)


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    path = Path("docs/telemetry.md")
    path.write_text(telemetry_page(path.read_text()))
