"""The engines that the conformance suite runs, and what it asks of each: all that `pyproject.toml` ships."""

import importlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gpuworker.engine import Engine, EngineJob

_PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


@dataclass(frozen=True)
class Case:
    """Two unlike jobs, and what makes a job one that may share a forward."""

    first: EngineJob
    second: EngineJob
    batchable: Mapping[str, Any] = field(default_factory=dict)


STORY = (
    "The lighthouse keeper counted the ships each night, and wrote their names into a book. "
    "Dr. Smith asked him once why he did it; he said that somebody should. "
)

CASES: Mapping[str, Case] = {
    "tone": Case(
        first=EngineJob(id="first", input="a", params={"seconds": 3.3, "block_ms": 70}),
        second=EngineJob(id="second", input="b", params={"seconds": 1.01, "block_ms": 70}),
        batchable={"max_batch": 4},
    ),
    "speech": Case(
        first=EngineJob(id="first", input=STORY * 8, seed=11),
        second=EngineJob(id="second", input="Kurz gesagt: es klingt.", voice="de+f3", params={"speed": 1.5}),
    ),
    "music": Case(
        first=EngineJob(id="first", input="a calm piano in the evening", params={"seconds": 4}, seed=11),
        second=EngineJob(id="second", input="happy dance with drums", params={"seconds": 2}, seed=12),
    ),
}


def shipped() -> Mapping[str, str]:
    """Name to `module:class` of every engine that the distribution registers."""
    project = tomllib.loads(_PYPROJECT.read_text())["project"]
    entry_points: Mapping[str, str] = project["entry-points"]["antiphon.engines"]
    return entry_points


def make(name: str) -> Engine:
    module, _, attribute = shipped()[name].partition(":")
    engine: Engine = getattr(importlib.import_module(module), attribute)()
    return engine


def with_params(job: EngineJob, params: Mapping[str, Any]) -> EngineJob:
    return replace(job, params={**job.params, **params})
