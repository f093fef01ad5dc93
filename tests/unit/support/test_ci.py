"""CI tells a race from a fault: what is run once more, what is not, and what the last lines say."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support import ci
from tests.support.ci import MAX_FLAKY, Outcome, Rerun, Verdict, may_be_flaky, run_suite, settle, stream, without_flaky
from tests.support.ci_report import Failure, Report, read

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
FAILED = Failure("tests/unit/test_a.py::test_b", "call", "AssertionError: assert 1 == 2")
SUMMARY = "=================== 1 failed, 9 passed, 2 skipped in 172.50s (0:02:52) ==================="

#: Fails in its first run only.
FLAKY = """
from pathlib import Path

def test_flaky():
    ran = Path(__file__).with_suffix(".ran")
    first = not ran.exists()
    ran.touch()
    assert not first

def test_passes():
    pass
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project whose pytest finds the plugins of this one."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def outcome_of(project: Path, source: str, *options: str) -> Outcome:
    """A suite of one file, run by pytest itself, with what follows from its failures."""
    (project / "test_it.py").write_text(source)
    path = project / "report.json"
    argv = [sys.executable, "-m", "pytest", *ci.report_options(path), *options, "test_it.py"]
    _, lines = stream(argv, project)
    return settle("test", read(path), lines, 1.0, Rerun(project, project, options=()))


@pytest.mark.parametrize("options", [(), ("-p", "xdist", "-n", "2")], ids=["one process", "xdist"])
def test_a_test_that_passes_when_run_once_more_is_flaky_and_fails_nothing(
    project: Path, options: Sequence[str]
) -> None:
    outcome = outcome_of(project, FLAKY, *options)
    assert outcome.passed
    assert outcome.flaky == ["test_it.py::test_flaky"]
    assert outcome.failures == []
    assert " 2 passed, 1 rerun in " in outcome.summary
    assert outcome.summary.startswith("===")


def test_a_test_that_fails_twice_fails_the_suite(project: Path) -> None:
    outcome = outcome_of(project, "def test_it():\n    assert 1 == 2\n\ndef test_passes():\n    pass\n")
    assert not outcome.passed
    assert outcome.flaky == []
    assert [(failure.test, failure.phase) for failure in outcome.failures] == [("test_it.py::test_it", "call")]
    assert " 1 failed, 1 passed in " in outcome.summary


def test_an_error_in_a_fixture_may_be_flaky_too(project: Path) -> None:
    source = FLAKY.replace("def test_flaky():", "import pytest\n\n@pytest.fixture\ndef ready():").replace(
        "def test_passes():", "def test_passes(ready):"
    )
    outcome = outcome_of(project, source)
    assert (outcome.passed, outcome.flaky) == (True, ["test_it.py::test_passes"])
    assert " 1 passed, 1 rerun in " in outcome.summary


def test_a_crash_of_a_worker_is_never_run_again(project: Path) -> None:
    source = FLAKY.replace("assert not first", "import os\n    if first:\n        os._exit(3)")
    outcome = outcome_of(project, source, "-p", "xdist", "-n", "1")
    assert not outcome.passed
    assert outcome.flaky == []
    assert "crashed" in outcome.failures[0].message


def test_a_suite_is_a_target_of_the_makefile_and_its_report_comes_by_args(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    (project / "test_it.py").write_text(FLAKY)
    recipe = f"{sys.executable} -m pytest $(ARGS) test_it.py"
    (project / "Makefile").write_text(f'check:\n\t@test -z "$$PYTHONDONTWRITEBYTECODE"\n\ntest:\n\t{recipe}\n')
    outcome = run_suite("test", project, project)
    assert (outcome.passed, outcome.flaky) == (True, ["test_it.py::test_flaky"])
    assert outcome.seconds > 0
    assert run_suite("check", project, project).passed
    assert not run_suite("no-such-target", project, project).passed


def test_a_marked_chaos_test_is_never_run_again(project: Path) -> None:
    (project / "pytest.ini").write_text("[pytest]\nmarkers = chaos\n")
    source = FLAKY.replace("def test_flaky", "import pytest\n\n@pytest.mark.chaos\ndef test_flaky")
    outcome = outcome_of(project, source)
    assert (outcome.passed, outcome.flaky) == (False, [])


def test_a_failure_that_says_what_was_lost_is_never_run_again(project: Path) -> None:
    outcome = outcome_of(project, FLAKY.replace("assert not first", 'assert not first, "2 jobs lost"'))
    assert (outcome.passed, outcome.flaky) == (False, [])


def test_a_file_that_cannot_be_imported_is_never_run_again(project: Path) -> None:
    outcome = outcome_of(project, "import no_such_module\n")
    assert not outcome.passed
    assert not outcome.flaky
    assert [(failure.test, failure.phase) for failure in outcome.failures] == [("test_it.py", "collect")]


def test_a_suite_without_tests_is_no_failure(project: Path) -> None:
    outcome = outcome_of(project, FLAKY, "-k", "no_such_test")
    assert outcome.passed
    assert "deselected in " in outcome.summary


def test_a_suite_that_did_not_end_by_itself_fails() -> None:
    outcome = settle("test", None, ["make: *** [test] Killed"], 1.0, Rerun(ROOT, ROOT))
    assert not outcome.passed
    assert outcome.summary == "test ended without a summary"


@pytest.mark.parametrize(
    "failure",
    [
        Failure("tests/chaos/test_chaos.py::test_two_minutes", "call", "AssertionError"),
        Failure("tests/unit/bus/jobs/test_fence_model.py::test_one", "call", "AssertionError"),
        Failure("tests/integration/bus/fleet/test_takeover_events.py::test_one", "call", "AssertionError"),
        Failure("tests/x.py::test_a_job_is_taken_over", "call", "AssertionError"),
        Failure("tests/x.py::test_one", "call", "AssertionError", frozenset({"chaos"})),
        Failure("tests/x.py::test_one", "call", "AssertionError: assert {'wrong': 1} == {}"),
        Failure("tests/x.py::test_one", "call", "AssertionError: frame 3 doubled"),
        Failure("tests/x.py::test_one", "setup", "AssertionError: nats-server exited -9: "),
        Failure("tests/x.py::test_one", "call", "worker 'gw1' crashed while running 'tests/x.py::test_one'"),
        Failure("tests/x.py::test_one", "call", "SpeakerFailed: espeak_process (process 7) died while it spoke"),
        Failure("tests/x.py", "collect", "ImportError"),
    ],
    ids=lambda failure: f"{failure.test} {failure.message}"[:60],
)
def test_a_failure_that_no_race_excuses(failure: Failure) -> None:
    assert not may_be_flaky(failure)


def test_a_failure_that_may_be_a_race() -> None:
    assert may_be_flaky(FAILED)


def test_one_harmful_failure_of_a_test_forbids_its_second_run() -> None:
    class Passes:
        def passes(self, test: str) -> bool:
            return True

    harmful = Failure(FAILED.test, "teardown", "1 job lost")
    outcome = settle("test", Report(1, (FAILED, harmful)), [SUMMARY], 1.0, Passes())  # type: ignore[arg-type]
    assert (outcome.passed, outcome.flaky) == (False, [])


def flaky_outcome(name: str, num_flaky: int) -> Outcome:
    return Outcome(
        name, passed=True, seconds=10.0, flaky=[f"{name}.py::{n}" for n in range(num_flaky)], summary=SUMMARY
    )


def test_three_flaky_tests_pass_and_four_fail_the_run() -> None:
    assert Verdict([flaky_outcome("test", MAX_FLAKY)]).faults == []
    verdict = Verdict([flaky_outcome("test", 2), flaky_outcome("test-all", 2)])
    assert verdict.faults == ["failed: 4 tests are flaky, at most 3 may be"]


def test_a_run_of_more_than_an_hour_fails() -> None:
    assert Verdict([Outcome("test", passed=True, seconds=3000.0)], spent_s=599.0).faults == []
    assert Verdict([Outcome("test", passed=True, seconds=3000.0)], spent_s=601.0).faults == [
        "failed: the run took 3601 s, at most 3600 s are allowed"
    ]


def test_the_last_lines_name_seconds_failures_and_flaky_tests_and_end_with_the_summary_of_test() -> None:
    check = Outcome("check", passed=True, seconds=30.4)
    test = Outcome("test", passed=True, seconds=170.0, flaky=["tests/x.py::test_y"], summary=SUMMARY)
    long = Outcome("test-all", passed=False, seconds=900.0, failures=[FAILED], summary=SUMMARY.replace("9", "3"))
    assert Verdict([check, test, long], spent_s=60.0).closing().splitlines() == [
        "seconds: check 30, test 170, test-all 900; 1160 of at most 3600",
        "failed: test-all",
        "test-all:",
        "FAILED tests/unit/test_a.py::test_b - AssertionError: assert 1 == 2",
        SUMMARY.replace("9", "3"),
        "test:",
        "flaky: tests/x.py::test_y",
        SUMMARY,
    ]


@pytest.mark.parametrize(
    ("before", "phases", "after"),
    [
        ("1 failed, 9 passed in 3.00s", ["call"], "10 passed, 1 rerun in 3.00s"),
        ("2 failed, 9 passed, 1 warning in 3.00s", ["call"], "1 failed, 10 passed, 1 warning, 1 rerun in 3.00s"),
        ("9 passed, 1 error in 3.00s", ["setup"], "10 passed, 1 rerun in 3.00s"),
        ("9 passed, 1 error in 3.00s", ["teardown"], "9 passed, 1 rerun in 3.00s"),
        ("1 failed, 8 passed, 3 errors in 3.00s", ["call", "teardown"], "9 passed, 2 errors, 1 rerun in 3.00s"),
    ],
)
def test_a_flaky_test_counts_as_passed(before: str, phases: list[str], after: str) -> None:
    failures = [Failure("tests/x.py::test_y", phase, "") for phase in phases]  # type: ignore[arg-type]
    assert without_flaky(f"===== {before} =====", failures).strip("=") == f" {after} "


def test_only_the_first_failures_of_many_are_run_again() -> None:
    class Counting:
        num = 0

        def passes(self, test: str) -> bool:
            self.num += 1
            return False

    rerun = Counting()
    failures = tuple(Failure(f"tests/x.py::test_{n}", "call", "AssertionError") for n in range(50))
    settle("test", Report(1, failures), [SUMMARY], 1.0, rerun)  # type: ignore[arg-type]
    assert rerun.num == ci.MAX_RERUNS


SKIPS = """
import pytest

@pytest.mark.skipif(True, reason="libflite is not installed")
def test_marked():
    pass

def test_in_its_body():
    pytest.skip("this machine has no jq")

def test_without_a_reason():
    pytest.skip()

def test_for_want_of_a_gpu():
    pytest.skip("needs a CUDA device")

@pytest.mark.xfail
def test_expected_to_fail():
    assert False
"""


@pytest.mark.parametrize(
    ("value", "counts"), [("true", "2 failed, 1 skipped, 1 xfailed, 1 error in"), ("", "4 skipped, 1 xfailed in")]
)
def test_in_ci_a_skipped_test_fails_unless_the_machine_is_the_reason(
    project: Path, monkeypatch: pytest.MonkeyPatch, value: str, counts: str
) -> None:
    monkeypatch.setenv("CI", value)
    (project / "test_it.py").write_text(SKIPS)
    argv = [sys.executable, "-m", "pytest", "-p", "tests.support.skips", "test_it.py"]
    _, lines = stream(argv, project)
    assert counts in lines[-1], os.linesep.join(lines)


def test_in_ci_a_file_skipped_for_a_missing_package_fails(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    (project / "test_it.py").write_text("import pytest\npytest.importorskip('no_such_module')\n")
    code, lines = stream([sys.executable, "-m", "pytest", "-p", "tests.support.skips", "test_it.py"], project)
    assert code != 0
    assert any("skipped with CI=true: could not import 'no_such_module'" in line for line in lines)
