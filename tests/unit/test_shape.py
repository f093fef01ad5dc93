"""The shape of the code: budgets for files, functions and classes, documented names, nothing left half done."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("bus", "gateway", "gpuworker", "ops")
FILES = sorted(file for top in (*PACKAGES, "tests") for file in (ROOT / top).rglob("*.py"))
OURS = [file for file in FILES if file.relative_to(ROOT).parts[0] != "tests"]

MAX_FILE_LINES = 300
#: Files that are tables grow with what they list.
MAX_TABLE_LINES = 400
TABLES = {"bus/wire.py", "bus/subjects.py", "bus/errors.py", "bus/telemetry/events.py"}
MAX_FUNCTION_LINES = 50
MAX_CLASS_LINES = 150
MAX_METHODS = 12
#: One method per subject of the bus, and nothing else.
LARGE_CLASSES = {"bus/subjects.py:Subjects"}
MIN_DOCUMENTED = 0.9
#: Private attributes of other objects that all tests may use together; what tests/support uses of its own classes apart.
MAX_PRIVATE_IN_TESTS = 30

#: Names of drawers, not of nouns.
DRAWERS = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}


class ClassSize(NamedTuple):
    """A class, its length and the number of its own methods."""

    name: str
    lines: int
    methods: int


class Found(NamedTuple):
    """The content of a file that budgets are about, each with its line."""

    functions: list[tuple[int, str, int]]
    classes: list[tuple[int, ClassSize]]
    tuples: list[int]
    undocumented: list[tuple[int, str]]
    num_documented: int
    private: list[tuple[int, str]]
    relative: list[int]
    dropped: list[int]
    is_silent: bool


@cache
def found(file: Path) -> Found:
    """Parse a file once for all tests here."""
    tree = ast.parse(file.read_text())
    nodes = list(ast.walk(tree))
    public = [node for node in nodes if is_public(node)]
    undocumented = [(node.lineno, node.name) for node in public if not ast.get_docstring(node)]
    return Found(
        functions=[(node.lineno, node.name, length(node)) for node in nodes if is_function(node)],
        classes=[
            (node.lineno, size_of(node)) for node in nodes if isinstance(node, ast.ClassDef) and is_budgeted(node)
        ],
        tuples=[node.lineno for node in nodes if isinstance(node, ast.Assign) and sets_several_attributes(node)],
        undocumented=undocumented,
        num_documented=len(public) - len(undocumented),
        private=[(node.lineno, node.attr) for node in nodes if isinstance(node, ast.Attribute) and is_private(node)],
        relative=[node.lineno for node in nodes if isinstance(node, ast.ImportFrom) and node.level],
        dropped=[node.lineno for node in nodes if isinstance(node, ast.ExceptHandler) and drops(node)],
        is_silent=bool(tree.body) and not ast.get_docstring(tree),
    )


def is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def is_public(node: ast.AST) -> bool:
    """Whether a node defines a class, function or method that a reader of the package may use."""
    return (is_function(node) or isinstance(node, ast.ClassDef)) and not node.name.startswith("_")  # type: ignore[attr-defined]


def length(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def size_of(node: ast.ClassDef) -> ClassSize:
    return ClassSize(node.name, length(node), sum(is_function(each) for each in node.body))


def is_budgeted(node: ast.ClassDef) -> bool:
    """Protocols of typing, and tables, which are classes without methods, may be of any size."""
    bases = {base.id if isinstance(base, ast.Name) else getattr(base, "attr", "") for base in node.bases}
    return "Protocol" not in bases and any(is_function(each) for each in node.body)


def sets_several_attributes(node: ast.Assign) -> bool:
    """Whether a statement is like `self.a, self.b = a, b`, which packs lines and hides what is set."""
    return any(
        isinstance(target, ast.Tuple) and sum(isinstance(element, ast.Attribute) for element in target.elts) > 1
        for target in node.targets
    )


def is_private(node: ast.Attribute) -> bool:
    """Whether an expression is a private attribute of another object; what namedtuple calls `_replace` is public."""
    if not node.attr.startswith("_") or node.attr.startswith("__") or node.attr in {"_replace", "_asdict", "_fields"}:
        return False
    return not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"})


def drops(node: ast.ExceptHandler) -> bool:
    """Whether a handler ends an exception without a trace."""
    return len(node.body) == 1 and isinstance(node.body[0], ast.Pass)


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def files_of(package: str) -> list[Path]:
    return [file for file in FILES if file.relative_to(ROOT).parts[0] == package]


def test_no_file_is_longer_than_its_budget() -> None:
    sizes = {name(file): len(file.read_text().splitlines()) for file in FILES}
    budgets = {file: MAX_TABLE_LINES if file in TABLES else MAX_FILE_LINES for file in sizes}
    assert {file: size for file, size in sizes.items() if size > budgets[file]} == {}


@pytest.mark.parametrize("package", [*PACKAGES, "tests"])
def test_no_function_is_longer_than_its_budget(package: str) -> None:
    over = [
        f"{name(file)}:{line} {function}: {lines} lines"
        for file in files_of(package)
        for line, function, lines in found(file).functions
        if lines > MAX_FUNCTION_LINES
    ]
    assert over == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_class_is_larger_than_its_budget(package: str) -> None:
    over = [
        f"{name(file)}:{line} {each.name}: {each.lines} lines, {each.methods} methods"
        for file in files_of(package)
        for line, each in found(file).classes
        if (each.lines > MAX_CLASS_LINES or each.methods > MAX_METHODS)
        and f"{name(file)}:{each.name}" not in LARGE_CLASSES
    ]
    assert over == []


@pytest.mark.parametrize("package", [*PACKAGES, "tests"])
def test_no_statement_sets_several_attributes_by_one_tuple(package: str) -> None:
    over = [f"{name(file)}:{line}" for file in files_of(package) for line in found(file).tuples]
    assert over == []


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_documented(package: str) -> None:
    files = files_of(package)
    num_documented = sum(found(file).num_documented for file in files)
    missing = [f"{name(file)}:{line} {each}" for file in files for line, each in found(file).undocumented]
    is_enough = num_documented >= MIN_DOCUMENTED * (num_documented + len(missing))
    assert is_enough, "\n".join(missing)


def private_in_tests() -> Iterator[str]:
    support = [file for file in files_of("tests") if name(file).startswith("tests/support/")]
    own = {attribute for file in support for attribute in set_on_self(file)}
    for file in files_of("tests"):
        for line, attribute in found(file).private:
            if file not in support or attribute not in own:
                yield f"{name(file)}:{line} {attribute}"


def set_on_self(file: Path) -> set[str]:
    """Private attributes and methods of the classes in a file."""
    tree = ast.parse(file.read_text())
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    methods = {each.name for node in classes for each in node.body if is_function(each)}  # type: ignore[attr-defined]
    stored = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)]
    return methods | {node.attr for node in stored if isinstance(node.value, ast.Name) and node.value.id == "self"}


def test_tests_use_few_private_attributes() -> None:
    used = list(private_in_tests())
    assert len(used) <= MAX_PRIVATE_IN_TESTS, "\n".join(used)


def test_no_file_is_a_drawer() -> None:
    assert [name(file) for file in FILES if file.name in DRAWERS] == []


def test_every_import_is_absolute() -> None:
    assert [f"{name(file)}:{line}" for file in FILES for line in found(file).relative] == []


def test_no_exception_is_dropped_without_a_trace() -> None:
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


def test_every_module_of_ours_says_its_purpose() -> None:
    assert [name(file) for file in OURS if found(file).is_silent] == []


@pytest.mark.parametrize(
    ("source", "sizes"),
    [
        ("class A:\n    x: int\n    y: int", []),
        ("class A(Protocol):\n    def f(self): ...", []),
        ("class A:\n    def f(self): ...\n    def g(self): ...", [ClassSize("A", 3, 2)]),
    ],
)
def test_a_class_counts_its_lines_and_methods(source: str, sizes: list[ClassSize], tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(source)
    assert [size for _, size in found(tmp_path / "a.py").classes] == sizes


@pytest.mark.parametrize(
    ("statement", "is_found"),
    [
        ("self.a, self.b = 1, 2", True),
        ("self.a, (x, other.b) = one", False),
        ("self.a, x = 1, 2", False),
        ("self.a = self.b = 1", False),
    ],
)
def test_a_tuple_of_attributes_is_found(statement: str, is_found: bool, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(statement)
    assert bool(found(tmp_path / "a.py").tuples) == is_found


@pytest.mark.parametrize(
    ("expression", "is_found"),
    [("other._x", True), ("self.y._x", True), ("self._x", False), ("cls._x", False), ("a._replace(b=1)", False)],
)
def test_a_private_attribute_of_another_object_is_found(expression: str, is_found: bool, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(expression)
    assert bool(found(tmp_path / "a.py").private) == is_found
