"""A pytest plugin that writes the failures of a run as JSON, for `tests.support.ci`.

pytest -p tests.support.ci_report --ci-report FILE …
"""

from pathlib import Path
from typing import Literal

import msgspec
import pytest


class Failure(msgspec.Struct, frozen=True):
    """One failed phase of one test, or one file that could not be collected."""

    #: Node id; the path of a file that could not be collected.
    test: str
    phase: Literal["collect", "setup", "call", "teardown"]
    #: The exception and its text, without the traceback.
    message: str
    #: Markers, and other keywords, that the test has.
    keywords: frozenset[str] = frozenset()


class Report(msgspec.Struct, frozen=True):
    """The result of one pytest run."""

    #: As pytest's exit code: 0 passed, 1 tests failed, 2 interrupted, 3 internal error, 4 usage, 5 no tests.
    exit_status: int
    failures: tuple[Failure, ...] = ()


def read(path: Path) -> Report | None:
    """The report at `path`; None if the run ended without writing one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


class Recorder:
    """Collects the failures of one run and writes them to `path` at its end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failures: list[Failure] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a failed phase. The report of a test whose xdist worker crashed has no phase and no keywords."""
        if report.failed:
            phase = report.when if report.when in {"setup", "teardown"} else "call"
            self._failures.append(Failure(report.nodeid, phase, _message(report), frozenset(report.keywords or ())))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a file that could not be collected."""
        if report.failed:
            self._failures.append(Failure(report.nodeid, "collect", _message(report)))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Write the report."""
        self._path.write_bytes(msgspec.json.encode(Report(int(exitstatus), tuple(self._failures))))


def _message(report: pytest.TestReport | pytest.CollectReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message) if crash is not None else str(report.longrepr)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--ci-report FILE`."""
    parser.addoption("--ci-report", metavar="FILE", help="write the failures of this run to FILE, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """Record in the process that reports, not in the workers of pytest-xdist."""
    path = config.getoption("--ci-report")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(Path(path)), "ci-recorder")
