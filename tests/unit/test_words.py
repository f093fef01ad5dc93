"""Plain words: names, docstrings and comments say who does something, in the terms of the field."""

import ast
import io
import re
import tokenize
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("bus", "gateway", "gpuworker", "ops")

#: Words that hide who does something: processes send, receive, report and request; gateways, workers and clients
#: have names; what is made a second time is made again.
REFUSED = {"told", "heard", "hears", "whoever", "nobody", "somebody", "anew", "ears", "twin", "bury"}
#: Words that are sometimes right: at most so many in 1,000 words of docstrings and comments.
RARE = {"what": 3.0, "tell": 0.3, "tells": 0.3, "anybody": 0.3, "door": 0.3}
#: File and word to the reason why it is right there.
ALLOWED: dict[tuple[str, str], str] = {
    ("gateway/api/answers.py", "heard"): "`heard_s` is a field in the JSON of /v1/fleet, a contract",
    ("gateway/api/fleet.py", "heard"): "as above",
}
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
#: Parts of an identifier: heard_at, hasHeard, HTTPEars.
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


class Text(NamedTuple):
    """The words of a file, each list with the line that it begins at."""

    prose: list[tuple[int, str]]
    docstrings: list[tuple[int, str]]
    names: list[tuple[int, str]]


@cache
def text_of(file: Path) -> Text:
    """Read a file once for all tests here. `prose` is comments and docstrings."""
    source = file.read_text()
    nodes = list(ast.walk(ast.parse(source)))
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = [
        (node.body[0].lineno, text)
        for node in nodes
        if isinstance(node, documented) and (text := ast.get_docstring(node)) is not None
    ]
    names = [(getattr(node, "lineno", 1), name) for node in nodes for name in names_of(node)]
    return Text([*comments, *docstrings], docstrings, [(1, file.stem), *names])


def names_of(node: ast.AST) -> list[str]:
    """The identifiers that a node itself holds, not those of its children."""
    found = []
    for field in ("name", "id", "attr", "arg", "asname"):
        value = getattr(node, field, None)
        if isinstance(value, str):
            found.append(value)
    return found


def parts(name: str) -> set[str]:
    """The words that an identifier is made of, in lower case."""
    return {part.lower() for part in _PART.findall(name)}


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def sources(package: str) -> list[Path]:
    return [file for file in sorted((ROOT / package).rglob("*.py")) if file.read_text().strip()]


def findings(file: Path) -> list[str]:
    """Refused words of a file, each with its line and where it stands."""
    text, path = text_of(file), file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else file.name
    found = [(line, word, "text") for line, prose in text.prose for word in words(prose) if word in REFUSED]
    found += [(line, word, f"name {name}") for line, name in text.names for word in parts(name) & REFUSED]
    found += [(line, "what", "begins a docstring") for line, doc in text.docstrings if words(doc)[:1] == ["what"]]
    return [f"{path}:{line} {word}: {where}" for line, word, where in found if (path, word) not in ALLOWED]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_refused_word_stands_in_names_docstrings_or_comments(package: str) -> None:
    assert [finding for file in sources(package) for finding in findings(file)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_words_that_are_seldom_right_are_rare(package: str) -> None:
    prose = [word for file in sources(package) for _, text in text_of(file).prose for word in words(text)]
    counted = Counter(prose)
    rates = {word: 1000 * counted[word] / len(prose) for word in RARE}
    assert [f"{word}: {rate:.1f} per 1,000" for word, rate in rates.items() if rate > RARE[word]] == []


def test_every_allowed_word_is_still_there() -> None:
    gone = [
        key
        for key in ALLOWED
        if key[1] not in {*words((ROOT / key[0]).read_text()), *parts((ROOT / key[0]).read_text())}
    ]
    assert gone == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("# whoever asks", ["whoever"]),
        ('"""A message that nobody acknowledged."""', ["nobody"]),
        ('"""What a worker holds."""', ["what"]),
        ('"""Read what a worker holds, for years."""', []),
        ("heard_at = 1", ["heard"]),
        ("class BuryTwin: pass", ["bury", "twin"]),
        ("def f(ears): pass", ["ears"]),
        ("x.told(y=1)", ["told"]),
        ("f(whoever=1)", ["whoever"]),
        ("from a import b as anew", ["anew"]),
        ("years = 1", []),
        ('log.info("told")', []),
    ],
)
def test_a_refused_word_is_found(source: str, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(source)
    assert sorted(finding.split()[1].removesuffix(":") for finding in findings(tmp_path / "a.py")) == words
