"""The engine in `docs/engines.md` is a working one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpuworker.engine import Engine, EngineJob, MemoryPolicy, Rejected
from tests.engines.driving import resumed, run

PAGE = Path(__file__).parents[2] / "docs" / "engines.md"


def test_the_engine_of_the_documentation_works() -> None:
    names: dict[str, Any] = {}
    exec(PAGE.read_text().partition("```python\n")[2].partition("```")[0], names)
    engine = names["Metronome"]()
    assert isinstance(engine, Engine)
    engine.load("cpu", MemoryPolicy())
    job = EngineJob(id="j", input="120", params={"beats": 3})
    whole = run(engine, job)
    assert whole.end_frame == 72_000
    assert np.array_equal(resumed(engine, job, 30_000, whole).from_frame(30_000), whole.pcm[30_000:])
    with pytest.raises(Rejected, match="input: is a tempo"):
        engine.validate(EngineJob(id="j", input="fast"))
    engine.unload()
