"""The engine of `docs/engines.md` works, as a third party would install it: one file, one entry point, one test."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bus.jobs.client import Bus
from bus.settings import BusSettings
from tests.support import engine_package
from tests.support.jobs import listen, tone_job

ROOT = Path(__file__).parents[2]


def snippets() -> Iterator[str]:
    """The Python of the page, in order."""
    for part in (ROOT / "docs" / "engines.md").read_text().split("```python\n")[1:]:
        yield part.partition("```")[0]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    engine, test = snippets()
    engine_package.install(tmp_path / "site", "metronome", "Metronome", engine)
    (tmp_path / "test_metronome.py").write_text(test)
    return tmp_path


def test_an_engine_of_a_third_party_passes_the_conformance_tests_with_a_test_of_its_own(installed: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), "."],
        cwd=installed,
        env={**os.environ, "PYTHONPATH": engine_package.python_path(installed / "site", ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    assert " passed" in run.stdout


@pytest.mark.parametrize(("flags", "click_hz"), [((), 880.0), (("--engine-option", "metronome.click_hz=440"), 440.0)])
async def test_a_worker_serves_it_with_the_options_of_its_file_and_of_its_command_line(
    bus_settings: BusSettings, bus: Bus, installed: Path, flags: tuple[str, ...], click_hz: float
) -> None:
    config = installed / "antiphon.toml"
    config.write_text("[engines.metronome]\nclick_hz = 880\n")
    with engine_package.worker(bus_settings, installed / "site", "metronome", "w1", "--config", str(config), *flags):
        async with asyncio.timeout(30):
            received = await listen(bus, tone_job(model="metronome", input="tick tock", bpm=300))
    click = np.sin(np.arange(2_400) * (2 * np.pi * click_hz / 48_000)) * np.linspace(0.8, 0, 2_400)
    beat = np.concatenate([click, np.zeros(7_200)]).astype(np.float32)
    assert received.pcm == np.rint(np.tile(beat, 2) * np.float32(32768)).astype("<i2").tobytes()


def test_the_doctor_names_a_requirement_of_a_third_partys_engine_and_how_to_install_it(installed: Path) -> None:
    engine = installed / "site" / "metronome.py"
    engine.write_text(engine.read_text().replace('module="numpy"', 'module="no_such_clockwork"'))
    run = subprocess.run(
        [sys.executable, "-m", "ops.cli.main", "doctor", "--state", str(installed), "--http-port", "0"],
        cwd=installed,
        env={**os.environ, "PYTHONPATH": engine_package.python_path(installed / "site", ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "no_such_clockwork not installed; metronome needs it" in run.stdout
    assert "-m pip install 'metronome'" in run.stdout
