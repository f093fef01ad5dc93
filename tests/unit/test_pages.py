"""What the pages name is there: links, images, files, modules, commands and their flags."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from ops.cli.main import app
from tests.support.pages import PAGES, ROOT, anchors, links

#: Where a page's `folder/file.py` may begin.
BASES = [ROOT, *(ROOT / base for base in ("bus", "gateway", "gpuworker", "gpuworker/engines", "docs"))]
#: Flags that the pages show of other people's commands: nats, curl, nats-server, make, ffplay, sox, pip, vllm.
FOREIGN_FLAGS = {
    *("--wait-for-empty", "--reply-timeout", "--timeout", "--no-templates", "--raw", "--stream", "--all", "--count"),
    *(
        "--inbox-prefix",
        "--omni",
        "--data-binary",
        "--signal",
        "--targets",
        "--venvs",
        "--out",
        "--help",
        "--default-non-nullable",
    ),
}
#: What a folder of the gateway's or the worker's holds besides modules of its own.
UNNAMED = {"__init__"}


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def flags_of(command: object) -> set[str]:
    """Of a command and of everything under it."""
    own = {flag for each in getattr(command, "params", ()) for flag in (*each.opts, *each.secondary_opts)}
    return own.union(*(flags_of(each) for each in getattr(command, "commands", {}).values()))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_to_a_file_and_to_a_heading_that_is_there(page: Path) -> None:
    broken = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        found = page.parent / path if path else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            broken.append(target)
    assert broken == []


def test_every_image_is_shown_somewhere() -> None:
    shown = {(page.parent / target).resolve() for page in PAGES for target in links(page)}
    assert [file.name for file in sorted((ROOT / "docs" / "images").iterdir()) if file.resolve() not in shown] == []


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {(ROOT / target.partition("#")[0]).resolve() for target in links(ROOT / "README.md")}
    assert [name(page) for page in sorted((ROOT / "docs").glob("*.md")) if page.resolve() not in linked] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    named = re.findall(r"`((?:[\w-]+/)+[\w-]+\.(?:py|md|conf|html|toml|sh))\b", page.read_text())
    assert [file for file in named if not any((base / file).exists() for base in BASES)] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_flag_that_a_page_names_is_one_of_a_command_of_ours(page: Path) -> None:
    known = flags_of(get_command(app)) | FOREIGN_FLAGS
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*[a-z0-9](?![\w=]*-->)", page.read_text()))
    assert sorted(named - known) == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_that_a_page_names_is_there(page: Path) -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    unknown = []
    for first, second in re.findall(
        r"(?:^\$ |`|bin/|^)antiphon ([a-z]+)(?: ([a-z][a-z-]*[a-z])\b)?", page.read_text(), re.MULTILINE
    ):
        under = getattr(commands.get(first), "commands", None)
        if first not in commands or (under is not None and second and second not in under):
            unknown.append(f"{first} {second}".strip())
    assert unknown == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_target_of_make_that_a_page_names_is_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE)) - targets == set()


def test_every_rule_that_the_code_quotes_is_on_the_page_of_the_protocol() -> None:
    defined = set(re.findall(r"^\*\*(\d+)\.\*\* ", (ROOT / "docs" / "protocol.md").read_text(), re.MULTILINE))
    sources = [
        file for package in ("bus", "gateway", "gpuworker", "ops", "tests") for file in (ROOT / package).rglob("*.py")
    ]
    for source in [*sources, *PAGES]:
        for quoted in re.findall(r"\brules? ((?:\d+(?:, | and | to )?)+)", source.read_text()):
            assert set(re.findall(r"\d+", quoted)) <= defined, (name(source), quoted)


def _is_room(folder: Path) -> bool:
    return folder.is_dir() and folder.name != "__pycache__" and any(folder.iterdir())


@pytest.mark.parametrize("package", ["bus", "gateway", "gpuworker"])
def test_the_page_of_the_rooms_names_every_module_and_no_other(package: str) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page.partition(f"\n`{package}/`\n")[2].partition("\n\n`")[0].partition("\n## ")[0]
    named = {
        each for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for each in re.findall(r"`([\w/]+)`", row)
    }
    there = {file.stem for file in (ROOT / package).glob("*.py")} - UNNAMED
    there |= {f"{folder.name}/" for folder in (ROOT / package).iterdir() if _is_room(folder)}
    assert named == there
