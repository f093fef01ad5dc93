"""The wheel alone: installed without a clone, `antiphon up` works from any folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession

from tests.support.tone import tone_pcm
from tests.support.up import Up

ROOT = Path(__file__).parents[2]


#: Of this test's processes: nothing of ours, and no path to the source tree.
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith(("ANTIPHON_", "PYTHON"))}
# nats-server comes with a package of this environment.
ENVIRON["PATH"] = f"{Path(sys.executable).parent}:{ENVIRON['PATH']}"


def run(*argv: object, cwd: Path) -> str:
    done = subprocess.run([*map(str, argv)], cwd=cwd, env=ENVIRON, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a virtual environment that has our wheel, and this one's packages for everything else."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "tests"))
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source, cwd=folder)
    (wheel,) = folder.glob("antiphon-*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    run(*pip, "--python", python, "install", "--quiet", "--no-deps", wheel, cwd=folder)
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_paths()["purelib"])
    return folder / "venv" / "bin"


@contextmanager
def running(installed: Path, folder: Path) -> Iterator[Up]:
    """`antiphon up` of the wheel in `folder`."""
    flags = ("--json", "--http-port", "0", "--nats-port", "0", "--models", "tone", "--state", str(folder / "state"))
    argv = [installed / "antiphon", "up", *flags]
    errors = folder / "stderr"
    with (
        errors.open("wb") as stderr,
        subprocess.Popen(argv, cwd=folder, env=ENVIRON, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        try:
            yield Up(process, errors)
        finally:
            process.kill()


@pytest.mark.slow
async def test_the_wheel_alone_serves_from_any_folder(installed: Path, tmp_path: Path) -> None:
    where = run(installed / "python", "-c", "import gateway; print(gateway.__file__)", cwd=tmp_path)
    assert where.startswith(str(installed.parent)), "the source tree was imported, not the wheel"
    lookup = "from gpuworker.engines.reading.lexicon import Lexicon; print(Lexicon().find('dog'))"
    assert run(installed / "python", "-c", lookup, cwd=tmp_path).strip() == "dˈɔɡ"
    body = {"model": "tone", "input": "x", "response_format": "pcm", "params": {"seconds": 0.5}}
    with running(installed, tmp_path) as up:
        async with ClientSession() as http:
            async with http.post(f"{up.http}/v1/audio/speech", json=body) as response:
                assert (response.status, await response.read()) == (200, tone_pcm(0.5))
            async with http.get(f"{up.http}/docs") as response:
                assert response.status == 200
                assert "<html" in await response.text()
        up.stop()
