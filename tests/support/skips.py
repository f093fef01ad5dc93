"""With `CI=true` a skipped test is a failure, unless its reason says that the machine itself cannot run it.

A missing package, program or asset is then a fault of `.ci/run`, which installs them all, and must not hide a test.
"""

import os
import re
from collections.abc import Generator

import pytest

#: Reasons that a skip may have in CI, as regular expressions: properties of the machine that no installation changes.
ALLOWED = (
    r"^needs a CUDA device",
    # Packages of single publishers that no index promises to keep.
    r"^test asset \w+ is not installed",
    r"^mounting a small file system (needs root|is not permitted)",
)


def in_ci() -> bool:
    """Whether this run is CI's, by the variable `CI`."""
    return os.environ.get("CI", "").lower() in {"1", "true"}


def is_allowed(reason: str) -> bool:
    """Whether a test may be skipped in CI for `reason`."""
    return any(re.search(pattern, reason) for pattern in ALLOWED)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that was skipped, by a marker or in its body or fixtures."""
    report = yield
    if not hasattr(report, "wasxfail"):  # an expected failure has the outcome of a skip too
        _refuse(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail a file that was skipped as a whole."""
    report = yield
    _refuse(report)
    return report


def _refuse(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not (report.skipped and in_ci()):
        return
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = text.removeprefix("Skipped").removeprefix(": ")
    if not is_allowed(reason):
        report.outcome = "failed"
        report.longrepr = f"skipped with CI=true: {reason or 'no reason given'}"
