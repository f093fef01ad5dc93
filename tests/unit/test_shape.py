"""The shape of the code: short files, short functions, names that say something, nothing left half done."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(file for top in ("bus", "gateway", "gpuworker", "ops", "tests") for file in (ROOT / top).rglob("*.py"))
OURS = [file for file in FILES if file.relative_to(ROOT).parts[0] != "tests"]
MAX_FILE_LINES = 300
#: Tables: one line per entry makes them long, and a split would only hide half of the entries.
TABLES = {"bus/wire.py", "bus/subjects.py", "bus/errors.py", "bus/telemetry/events.py"}
MAX_TABLE_LINES = 400
MAX_FUNCTION_LINES = 60
#: Names of drawers, not of nouns.
DRAWERS = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}


class Found(NamedTuple):
    """What is in a file, each with its line."""

    functions: list[tuple[int, str, int]]
    relative: list[int]
    dropped: list[int]
    is_silent: bool


@cache
def found(file: Path) -> Found:
    """Parsed once for all tests here."""
    tree, told = ast.parse(file.read_text()), Found([], [], [], is_silent=False)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            told.functions.append((node.lineno, node.name, (node.end_lineno or node.lineno) - node.lineno + 1))
        elif isinstance(node, ast.ImportFrom) and node.level:
            told.relative.append(node.lineno)
        elif isinstance(node, ast.ExceptHandler) and len(node.body) == 1 and isinstance(node.body[0], ast.Pass):
            told.dropped.append(node.lineno)
    return told._replace(is_silent=bool(tree.body) and not ast.get_docstring(tree))


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def test_no_file_is_longer_than_its_budget() -> None:
    sizes = {name(file): len(file.read_text().splitlines()) for file in FILES}
    budget = {file: MAX_TABLE_LINES if file in TABLES else MAX_FILE_LINES for file in sizes}
    assert {file: size for file, size in sizes.items() if size > budget[file]} == {}


def test_no_function_is_longer_than_its_budget() -> None:
    too_long = [
        f"{name(file)}:{line} {function}: {lines}"
        for file in FILES
        for line, function, lines in found(file).functions
        if lines > MAX_FUNCTION_LINES
    ]
    assert too_long == []


def test_no_file_is_a_drawer() -> None:
    assert [name(file) for file in FILES if file.name in DRAWERS] == []


def test_every_import_is_absolute() -> None:
    assert [f"{name(file)}:{line}" for file in FILES for line in found(file).relative] == []


def test_no_exception_is_dropped_without_a_word() -> None:
    assert [f"{name(file)}:{line}" for file in OURS for line in found(file).dropped] == []


@pytest.mark.parametrize("word", ["TO" + "DO", "FIX" + "ME", "XX" + "X", "raise NotImplemented" + "Error"])
def test_nothing_is_left_for_later(word: str) -> None:
    left = [
        f"{name(file)}:{number}"
        for file in FILES
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if re.search(rf"\b{word}\b", line)
    ]
    assert left == []


def test_every_module_of_ours_says_what_it_is_for() -> None:
    assert [name(file) for file in OURS if found(file).is_silent] == []
