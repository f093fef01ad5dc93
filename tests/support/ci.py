"""Runs the suites of CI and tells a race from a fault. `.ci/run` calls it once everything is installed.

A test that failed is run once more, alone. If it passes, it is flaky: it is named in the last lines and does not fail
the run, for up to `MAX_FLAKY` tests. A failure that a race cannot excuse is never run again, see `may_be_flaky`.
The last line is the summary of the suite `test`, in pytest's form.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.support.ci_report import Failure, Report, read

MAX_FLAKY: Final = 3
#: More failures than this are not races: only the first ones are run again, for the record.
MAX_RERUNS: Final = 10
MAX_RUN_S: Final = 3600.0
#: Targets of the Makefile, in the order they run. Those after `check` run pytest and write a report.
SUITES: Final = ("check", "test", "test-all", "chaos")
_MAX_LINE: Final = 600

#: These tests prove that nothing is lost when processes die: whatever fails in them once is a fault.
_PROOFS: Final = re.compile(r"chaos|fenc|takeover|taken_over")
#: A failure that says one of these is a fault, however often the test passes.
_HARM: Final = re.compile(
    r"\b(lost|wrong|doubled|died|crash(ed|es)?|exited|killed by|core dumped|Segmentation fault|Fatal Python error)\b",
    re.IGNORECASE,
)
_SUMMARY: Final = re.compile(r"^=+ (?P<counts>.*) in (?P<duration>[0-9.]+s.*?) =+$")
#: Outcomes in the order in which pytest's summary names them.
_OUTCOMES: Final = ("failed", "passed", "skipped", "deselected", "xfailed", "xpassed", "warning", "error", "rerun")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one suite."""

    name: str
    passed: bool
    seconds: float
    #: Failures that stay after the second run, and those that were not run again.
    failures: Sequence[Failure] = ()
    #: Node ids of tests that failed and then passed.
    flaky: Sequence[str] = ()
    #: The last line, in pytest's form; for a suite without pytest empty.
    summary: str = ""


@dataclass(slots=True)
class Verdict:
    """The result of all suites, with what was spent before them in seconds."""

    outcomes: list[Outcome] = field(default_factory=list)
    spent_s: float = 0.0

    @property
    def seconds(self) -> float:
        """Duration of the whole run so far."""
        return self.spent_s + sum(outcome.seconds for outcome in self.outcomes)

    @property
    def faults(self) -> list[str]:
        """Why the run fails, one reason per line; empty if it passes."""
        found = [f"failed: {outcome.name}" for outcome in self.outcomes if not outcome.passed]
        if (num_flaky := sum(len(outcome.flaky) for outcome in self.outcomes)) > MAX_FLAKY:
            found.append(f"failed: {num_flaky} tests are flaky, at most {MAX_FLAKY} may be")
        if self.seconds > MAX_RUN_S:
            found.append(f"failed: the run took {self.seconds:.0f} s, at most {MAX_RUN_S:.0f} s are allowed")
        return found

    def closing(self) -> str:
        """The last lines of the run. The suite that ran first of those with pytest comes last."""
        each = ", ".join(f"{outcome.name} {outcome.seconds:.0f}" for outcome in self.outcomes)
        lines = [f"seconds: {each}; {self.seconds:.0f} of at most {MAX_RUN_S:.0f}", *self.faults]
        for outcome in reversed(self.outcomes):
            if outcome.summary:
                lines.append(f"{outcome.name}:")
                lines += [_line(failure) for failure in outcome.failures]
                lines += [f"flaky: {test}" for test in outcome.flaky]
                lines.append(outcome.summary)
        return "\n".join(lines)


def _line(failure: Failure) -> str:
    word = "FAILED" if failure.phase == "call" else "ERROR"
    return f"{word} {failure.test} - {failure.message.strip().partition(chr(10))[0]}"[:_MAX_LINE]


def may_be_flaky(failure: Failure) -> bool:
    """Whether a failure may be a race: not in a proof of safety, and not one that speaks of harm or of a dead process."""
    if failure.phase == "collect" or "chaos" in failure.keywords or _PROOFS.search(failure.test):
        return False
    return _HARM.search(failure.message) is None


def summary_of(lines: Sequence[str]) -> str:
    """The last summary line that pytest printed; empty if there is none."""
    return next((line for line in reversed(lines) if _SUMMARY.match(line)), "")


def without_flaky(summary: str, failures: Sequence[Failure]) -> str:
    """`summary` after tests whose first run had these `failures` have passed: they count as passed, and as reruns."""
    found = _SUMMARY.match(summary)
    if found is None or not failures:
        return summary
    counts = {word.removesuffix("s"): int(number) for number, word in re.findall(r"(\d+) (\w+)", found["counts"])}
    tests = {failure.test for failure in failures}
    passed_before = {failure.test for failure in failures if failure.phase == "teardown"}
    passed_before -= {failure.test for failure in failures if failure.phase != "teardown"}
    num_failed = sum(failure.phase == "call" for failure in failures)
    counts["failed"] = counts.get("failed", 0) - num_failed
    counts["error"] = counts.get("error", 0) - (len(failures) - num_failed)
    counts["passed"] = counts.get("passed", 0) + len(tests - passed_before)
    counts["rerun"] = len(tests)
    return f" {_joined(counts)} in {found['duration']} ".center(len(summary), "=")


def _joined(counts: Mapping[str, int]) -> str:
    """The counts as pytest prints them: those that are 0 are left out, and two words have a plural."""
    return ", ".join(
        f"{counts[name]} {name}{'s' if name in {'warning', 'error'} and counts[name] > 1 else ''}"
        for name in _OUTCOMES
        if counts.get(name)
    )


def settle(name: str, report: Report | None, lines: Sequence[str], seconds: float, rerun: "Rerun") -> Outcome:
    """The outcome of a suite that has run, after its failed tests have run once more where they may be flaky.

    No test at all, pytest's exit code 5, is no failure. A run without a report did not end by itself.
    """
    summary = summary_of(lines) or f"{name} ended without a summary"
    if report is None or report.exit_status not in {0, 1, 5}:
        return Outcome(name, passed=False, seconds=seconds, failures=report.failures if report else (), summary=summary)
    began = time.monotonic()
    by_test: dict[str, list[Failure]] = {}
    for failure in report.failures:
        by_test.setdefault(failure.test, []).append(failure)
    candidates = [test for test, failures in by_test.items() if all(map(may_be_flaky, failures))]
    flaky = [test for test in candidates[:MAX_RERUNS] if rerun.passes(test)]
    stays = [failure for failure in report.failures if failure.test not in flaky]
    excused = [failure for failure in report.failures if failure.test in flaky]
    return Outcome(
        name,
        # Without a failure on record, exit code 1 has a cause that no second run explains.
        passed=report.exit_status != 1 or bool(excused and not stays),
        seconds=seconds + time.monotonic() - began,
        failures=stays,
        flaky=flaky,
        summary=without_flaky(summary, excused),
    )


@dataclass(frozen=True, slots=True)
class Rerun:
    """Runs one test alone, in the folder that its node id is relative to."""

    root: Path
    scratch: Path
    options: Sequence[str] = ("-o", "faulthandler_timeout=1200")

    def passes(self, test: str) -> bool:
        """Whether `test` passes now; a test that is skipped or not found does not."""
        path = self.scratch / "rerun.json"
        path.unlink(missing_ok=True)
        print(f"\n--- once more, alone: {test}", flush=True)
        argv = [sys.executable, "-m", "pytest", *self.options, *report_options(path), test]
        lines = stream(argv, self.root)[1]
        report = read(path)
        return report is not None and report.exit_status == 0 and " passed" in summary_of(lines)


def report_options(path: Path) -> tuple[str, ...]:
    """pytest's options for a report at `path`."""
    return ("-p", "tests.support.ci_report", "--ci-report", str(path))


def stream(argv: Sequence[str], cwd: Path) -> tuple[int, list[str]]:
    """Run a command, pass its output on as it comes, and return its exit code and its lines."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    lines = []
    with subprocess.Popen(
        argv, cwd=cwd, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            lines.append(line.rstrip("\n"))
    return process.returncode, lines


def run_suite(name: str, root: Path, scratch: Path) -> Outcome:
    """Run one target of the Makefile."""
    began = time.monotonic()
    argv = ["make", "--no-print-directory", name]
    if name == "check":
        code, _ = stream(argv, root)
        return Outcome(name, passed=code == 0, seconds=time.monotonic() - began)
    path = scratch / f"{name}.json"
    _, lines = stream([*argv, f"ARGS={' '.join(report_options(path))}"], root)
    return settle(name, read(path), lines, time.monotonic() - began, Rerun(root, scratch))


def main() -> int:
    """Run every suite, print the closing lines; the exit code is 1 if the run fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spent-s", type=float, default=0.0, metavar="S", help="seconds spent on the installation")
    parser.add_argument("suites", nargs="*", default=SUITES, help=f"default: {' '.join(SUITES)}")
    given = parser.parse_args()
    verdict = Verdict(spent_s=given.spent_s)
    with tempfile.TemporaryDirectory(prefix="antiphon-ci-") as scratch:
        for name in given.suites:
            verdict.outcomes.append(run_suite(name, Path(__file__).parents[2], Path(scratch)))
    print(f"\n{verdict.closing()}", flush=True)
    return 1 if verdict.faults else 0


if __name__ == "__main__":
    sys.exit(main())
