"""`antiphon engine test` as its user sees it: a line for each rule, the rules that are broken, and wrong arguments."""

import json
import sys
from pathlib import Path

import pytest

from bus.settings import SettingsError
from gpuworker.settings import WorkerSettings
from ops.commands.engine import TestJobs as Given
from ops.commands.engine import check
from ops.errors import OpsError, UsageRefused
from tests.support import engine_package

BROKEN = """
from dataclasses import replace
from gpuworker.engine import Block
from gpuworker.engines.tone import Tone


class Cracked(Tone):
    def capabilities(self):
        return replace(super().capabilities(), name="cracked", max_batch=1)

    def generate(self, jobs):
        for index, event in super().generate(jobs):
            yield index, replace(event, pcm=event.pcm * 3) if isinstance(event, Block) else event
"""


def given(*params: str, batch: tuple[str, ...] = ("max_batch=4",)) -> Given:
    return Given("one", "two", "", list(params), list(batch))


def test_every_rule_has_its_line_and_the_last_one_counts_them(capsys: pytest.CaptureFixture[str]) -> None:
    check(WorkerSettings(), "tone", given("seconds=1.2"), as_json=False)
    *lines, last = capsys.readouterr().out.splitlines()
    assert "ok      repeats_itself" in lines
    assert "-       resumes_with_the_marks_at_0%" in lines
    assert "        it gives no marks" in lines
    assert last == "tone: 31 passed, 7 not applicable"


def test_an_engine_that_breaks_rules_fails_with_their_names_and_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine_package.install(tmp_path, "cracked", "Cracked", BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "cracked", raising=False)
    with pytest.raises(OpsError, match=r"cracked breaks \d+ of 38 rules: .*makes_audio_from_frame_0_and_one_done"):
        check(WorkerSettings(), "cracked", given("seconds=1.2", batch=()), as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert not printed["ok"]
    found = {row["check"]: row for row in printed["checks"]}
    assert found["makes_audio_from_frame_0_and_one_done"]["outcome"] == "failed"
    assert found["makes_audio_from_frame_0_and_one_done"]["detail"].endswith("has a sample of 3, the limit is 1")
    assert found["repeats_itself"]["outcome"] == "not run"
    assert found["refuses_an_unknown_voice"]["outcome"] == "passed"


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("tonne", (), "no engine called 'tonne' among .*tone.*; did you mean tone"),
        ("tone", ("seconds",), "--param: 'seconds' is not KEY=VALUE"),
        ("tone", ("device=own",), "--param: 'own' is no JSON; write text in quotes: device='\"own\"'"),
    ],
)
def test_a_wrong_argument_is_refused(name: str, params: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageRefused, match=message):
        check(WorkerSettings(), name, given(*params), as_json=False)


def test_an_engine_that_cannot_be_loaded_fails_with_its_reason(tmp_path: Path) -> None:
    settings = WorkerSettings(engines={"piper": {"voices": str(tmp_path)}})
    with pytest.raises(OpsError, match=r"piper cannot be loaded: RuntimeError: no usable voice in"):
        check(settings, "piper", given(), as_json=False)


def test_each_model_of_an_engine_with_a_table_for_each_is_tested() -> None:
    settings = WorkerSettings(engines={"upstream": {"one": {"url": "http://127.0.0.1:9", "no_such": 1}}})
    with pytest.raises(SettingsError, match=r"engines\.upstream\.one\.no_such"):
        check(settings, "upstream", given(), as_json=False)
