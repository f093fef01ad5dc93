"""The engines of `docs/engines.md` work, as third parties would install them: packages of their own, from `examples/`."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bus.jobs.client import Bus
from bus.settings import BusSettings
from tests.support import engine_package, up
from tests.support.doors import wav_pcm
from tests.support.jobs import listen, tone_job

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "engines.md").read_text()
EXAMPLES = ROOT / "examples"


def snippets(language: str) -> Iterator[str]:
    """The blocks of one language on the page, in order."""
    for part in PAGE.split(f"```{language}\n")[1:]:
        yield part.partition("```")[0]


def lines(code: str) -> str:
    """`code` without indentation and empty lines: the formatter indents a part of a class in another way on a page."""
    return "\n".join(filter(None, map(str.strip, code.splitlines())))


def install(example: str, folder: Path) -> Path:
    """Install an example with pip; returns its sources, with the installed package in `site` beside them."""
    source = shutil.copytree(EXAMPLES / example, folder / example)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(folder / "site"), str(source)], check=True, timeout=60)
    return source


def antiphon(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command in an environment that has the packages installed in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "ops.cli.main", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": engine_package.python_path(folder / "site", ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    install("metronome", folder)
    return folder / "site"


@pytest.fixture
def installed(site: Path, tmp_path: Path) -> Path:
    shutil.copytree(site, tmp_path / "site")
    return tmp_path


def test_the_page_shows_the_examples_as_they_are() -> None:
    metronome, test, torch = snippets("python")
    assert metronome == (EXAMPLES / "metronome" / "metronome.py").read_text()
    assert test == (EXAMPLES / "metronome" / "test_metronome.py").read_text()
    assert next(snippets("toml")) == (EXAMPLES / "metronome" / "pyproject.toml").read_text()
    drone = lines((EXAMPLES / "drone" / "drone.py").read_text())
    load, generate = torch.split("def generate")
    assert lines(load) in drone
    assert lines(f"def generate{generate}") in drone


def test_an_engine_of_a_third_party_is_tested_with_one_command(installed: Path) -> None:
    run = antiphon(installed, "engine", "test", "metronome", "--json")
    assert run.returncode == 0, run.stdout
    outcomes = [row["outcome"] for row in json.loads(run.stdout)["checks"]]
    assert outcomes.count("passed") > 25


@pytest.mark.slow
@pytest.mark.parametrize("example", ["metronome", "drone"])
def test_an_example_passes_the_tests_beside_it_in_pytest(example: str, tmp_path: Path) -> None:
    source = install(example, tmp_path)
    without = [each for name in ("cacheprovider", "schemathesis", "asyncio") for each in ("-p", f"no:{name}")]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *without, "."],
        cwd=source,
        env={**os.environ, "PYTHONPATH": engine_package.python_path(tmp_path / "site", ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    assert int(re.findall(r"(\d+) passed", run.stdout)[0]) > 25


@pytest.mark.slow
def test_a_stack_serves_it_and_say_names_it(installed: Path) -> None:
    """The commands of the page, on free ports; what the engine itself refuses names the field."""
    engine = installed / "site" / "metronome.py"
    refusing = 'if "seven" in job.input:\n            raise Rejected("input", "counts to seven")\n        return job'
    code = engine.read_text().replace("        return job\n", f"        {refusing}\n")
    engine.write_text(code.replace("    Requirement,\n", "    Rejected,\n    Requirement,\n"))
    with up.running(installed / "state", "--models", "metronome", path=(installed / "site",)) as stack:
        run = antiphon(installed, "say", "--url", stack.http, "--model", "metronome", "tick tock", "-o", "clicks.wav")
        refused = antiphon(installed, "say", "--url", stack.http, "--model", "metronome", "seven", "-o", "no.wav")
        assert stack.stop() == ""
    assert run.returncode == 0, run.stderr
    assert len(wav_pcm((installed / "clicks.wav").read_bytes())) == 2 * 48_000
    assert refused.returncode == 1
    assert "input: counts to seven" in refused.stderr


@pytest.mark.slow
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
    run = antiphon(installed, "doctor", "--models", "metronome", "--state", str(installed), "--http-port", "0")
    assert "no_such_clockwork not installed; metronome needs it" in run.stdout
    assert "-m pip install 'metronome'" in run.stdout
