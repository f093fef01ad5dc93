"""Log events are an API: code and table have the same events, and the document prints the table."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from bus.telemetry.events import COMMON, EVENTS
from ops.docs import telemetry_page

ROOT = Path(__file__).parents[4]
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
NOUN_VERB = re.compile(r"[a-z]+(_[a-z]+)*\.[a-z]+(_[a-z]+)*")
#: Made by bus/telemetry/logging.py from the lines of libraries.
MADE_THERE = {"library.logged"}


@cache
def logged() -> list[tuple[str, str | None, set[str]]]:
    """Place, event name (None if it is no literal) and fields of every `log.<level>(…)` of ours."""
    return [*_logged()]


def _logged() -> Iterator[tuple[str, str | None, set[str]]]:
    for package in ("bus", "gateway", "gpuworker", "ops"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and is_log_call(node.func):
                    first = node.args[0] if node.args else None
                    event = first.value if isinstance(first, ast.Constant) else None
                    fields = {keyword.arg for keyword in node.keywords if keyword.arg}
                    yield f"{file.relative_to(ROOT)}:{node.lineno}", event, fields


def is_log_call(function: ast.expr) -> bool:
    """`log.info`, `self._log.info` and `logger(__name__).info` alike."""
    if not (isinstance(function, ast.Attribute) and function.attr in LEVELS):
        return False
    owner = ast.unparse(function.value)
    return owner.rpartition(".")[2].lstrip("_") in {"log", "logger"} or owner.startswith("logger(")


def test_every_event_that_is_logged_is_in_the_table() -> None:
    assert [f"{place}: {event}" for place, event, _ in logged() if event not in EVENTS] == []


def test_every_field_that_is_logged_is_in_the_table() -> None:
    unknown = [
        f"{place}: {event}: {', '.join(sorted(extra))}"
        for place, event, fields in logged()
        if event in EVENTS and (extra := fields - set(EVENTS[event].fields) - COMMON)
    ]
    assert unknown == []


def test_every_event_of_the_table_is_logged_somewhere() -> None:
    assert sorted(set(EVENTS) - {event for _, event, _ in logged()} - MADE_THERE) == []


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_is_a_noun_and_a_verb(event: str) -> None:
    assert NOUN_VERB.fullmatch(event)


def test_the_document_prints_the_table() -> None:
    page = (ROOT / "docs" / "telemetry.md").read_text()
    assert page == telemetry_page(page), "run `make docs`"


PROGRAM = """
import logging, sys
from bus.telemetry.logging import bound, configure, logger
log = logger("a.module")
configure("worker w1", form=sys.argv[1], level="info")
with bound(job="j1"):
    log.info("child.started", child="c", pid=1)
    log.debug("child.started", child="too quiet", pid=1)
log.info("child.stopped", child="c")
logging.getLogger("nats.aio").warning("slow %s", "consumer")
logging.getLogger("aiohttp.access").info("GET /")
try:
    raise KeyError("why")
except KeyError:
    log.exception("child.exited", child="c")
raise ValueError("the end")
"""


def run_program(form: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, form], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    """The JSON log lines of a program."""
    return [json.loads(line) for line in run_program("json").stderr.splitlines()]


def test_every_line_is_json_with_time_level_process_and_module(lines: list[dict[str, Any]]) -> None:
    assert [line["event"] for line in lines] == [
        "child.started",
        "child.stopped",
        "library.logged",
        "child.exited",
        "process.crashed",
    ]
    for line in lines:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["timestamp"])
        assert line["process"] == "worker w1"
        assert line["level"] in LEVELS
        assert line["module"]


def test_bound_context_is_on_the_lines_of_its_block_alone(lines: list[dict[str, Any]]) -> None:
    assert [line.get("job") for line in lines] == ["j1", None, None, None, None]


def test_a_line_of_a_library_becomes_one_event_with_its_text(lines: list[dict[str, Any]]) -> None:
    assert (lines[2]["message"], lines[2]["module"]) == ("slow consumer", "nats.aio")


def test_an_exception_brings_its_traceback_on_the_same_line(lines: list[dict[str, Any]]) -> None:
    assert "KeyError: 'why'" in lines[3]["exception"]
    assert "ValueError: the end" in lines[4]["exception"]


def test_a_console_is_for_people() -> None:
    text = run_program("console").stderr
    assert "child.started" in text
    assert not text.startswith("{")


def test_a_stream_that_is_not_a_terminal_gets_json() -> None:
    assert json.loads(run_program("auto").stderr.splitlines()[0])["event"] == "child.started"
