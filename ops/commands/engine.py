"""`antiphon engine test`: the conformance checks of one installed engine, each with its outcome."""

from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from bus.settings import SettingsError
from bus.text import did_you_mean
from gpuworker import registry
from gpuworker.conformance import suite
from gpuworker.conformance.subject import Jobs, Subject
from gpuworker.settings import WorkerSettings
from ops.errors import OpsError, UsageRefused

_WORDS: Final = {"passed": "ok", "failed": "FAILED", "not applicable": "-", "not run": "-"}


class TestJobs(NamedTuple):
    """The jobs of the command line. Params are `KEY=VALUE`, the value in JSON."""

    first: str | None
    second: str | None
    voice: str
    params: list[str]
    batch_params: list[str]

    def jobs(self) -> Jobs:
        """The jobs that the engine is tested with. Raises UsageRefused."""
        usual, params = Jobs(), _values("--param", self.params)
        first = replace(usual.first, input=self.first or usual.first.input, voice=self.voice, params=params)
        second = replace(usual.second, input=self.second or usual.second.input, voice=self.voice, params=params)
        return Jobs(first, second, _values("--batch-param", self.batch_params))


def _values(flag: str, assignments: list[str]) -> dict[str, Any]:
    values = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not (key and equals):
            raise UsageRefused(f"{flag}: {assignment!r} is not KEY=VALUE")
        try:
            values[key] = msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            raise UsageRefused(f"{flag}: {value!r} is no JSON; write text in quotes: {key}='\"{value}\"'") from error
    return values


def check(settings: WorkerSettings, name: str, given: TestJobs, *, as_json: bool) -> None:
    """Print the outcome of every check of the engine `name`, for each model that it serves by the settings.

    Raises UsageRefused for an unknown name or a wrong job, SettingsError for a wrong option, and OpsError if the engine
    cannot be made or loaded, or breaks a rule.
    """
    known = registry.names()
    if name not in known:
        raise UsageRefused(f"no engine called {name!r} among {', '.join(known)}{did_you_mean(name, known)}")
    jobs, broken, rows = given.jobs(), [], []
    for served in registry.served(name, settings.options_of(name)):
        subject = Subject(served.model, partial(registry.make_model, served), jobs, settings.device)
        try:
            results = _run(subject, as_json=as_json)
        finally:
            subject.close()
        broken += [each.check.name for each in results if each.outcome == "failed"]
        rows += [_row(served.model, each) for each in results]
        if not as_json:
            counted = Counter(each.outcome for each in results)
            print(f"{served.model}: {', '.join(f'{number} {outcome}' for outcome, number in counted.items())}")
    if as_json:
        print(msgspec.json.encode({"ok": not broken, "checks": rows}).decode())
    if broken:
        raise OpsError(f"{name} breaks {len(broken)} of {len(rows)} rules: {', '.join(broken)}")


def _row(model: str, result: suite.Result) -> dict[str, str]:
    return {"model": model, "check": result.check.name, "outcome": result.outcome, "detail": result.detail}


def _run(subject: Subject, *, as_json: bool) -> list[suite.Result]:
    """All results; each is printed as soon as it is known, unless they become JSON. Raises OpsError, SettingsError."""
    try:
        subject.engine.warm_up()
    except SettingsError:  # of the operator, not of the engine
        raise
    except Exception as error:
        raise OpsError(f"{subject.name} cannot be loaded: {type(error).__name__}: {error}") from error
    results = []
    for result in suite.run(subject):
        results.append(result)
        if not as_json:
            print(f"{_WORDS[result.outcome]:7} {result.check.name}")
            if result.detail:
                print("\n".join(f"{'':7} {line}" for line in result.detail.splitlines()))
    return results
