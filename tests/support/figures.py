"""Reading /metrics as Prometheus does."""

import asyncio
from collections.abc import Callable

from aiohttp import ClientSession
from prometheus_client.parser import text_string_to_metric_families

from bus.telemetry.metrics import CONTENT_TYPE
from tests.support.programs import Program


class Figures:
    """One scrape."""

    def __init__(self, text: str) -> None:
        families = list(text_string_to_metric_families(text))
        #: As the table names them: the parser takes the suffix of a counter off.
        self.names = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
        self._samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }

    def get(self, name: str, **labels: str) -> float | None:
        """None: there is no such series."""
        return self._samples.get((name, frozenset(labels.items())))

    def of(self, name: str) -> dict[tuple[str, ...], float]:
        """Every series of `name` that is not 0: values of its labels, those sorted by their names."""
        return {
            tuple(value for _, value in sorted(labels)): figure
            for (each, labels), figure in self._samples.items()
            if each == name and figure
        }


async def scrape(http: ClientSession, url: str) -> Figures:
    """`url`: of /metrics itself."""
    async with http.get(url) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["Content-Type"] == CONTENT_TYPE
        return Figures(await answer.text())


async def until(http: ClientSession, url: str, holds: Callable[[Figures], object], within_s: float = 20.0) -> Figures:
    """The first scrape of which `holds` is true."""
    async with asyncio.timeout(within_s):
        while not holds(found := await scrape(http, url)):
            await asyncio.sleep(0.02)
    return found


def metrics_url(worker: Program) -> str:
    return str(worker.wait_for("metrics.ready")["url"])
