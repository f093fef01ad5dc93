"""The pages of this repository, and what is on them: links, headings, blocks of commands and programs."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "ops").rglob("*.md")])


def links(page: Path) -> list[str]:
    """Targets within this repository, images included."""
    return [each for each in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if "://" not in each]


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def blocks(page: Path, language: str) -> list[str]:
    """The contents of its fenced blocks of `language`."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """One command of a page, and what the page says comes of it."""

    line: str
    #: What stands behind it, or below it, as a comment: a status, or an answer with `…` for what differs.
    shown: str


def commands(page: Path) -> list[Command]:
    """Of its `sh` blocks, in order. A here-document belongs to its command, a comment to the command before it."""
    found: list[Command] = []
    for block in blocks(page, "sh"):
        if block.startswith("$ "):
            parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)[1:]
            found += [Command(line, shown.strip()) for line, shown in zip(parts[::2], parts[1::2], strict=True)]
            continue
        rest = block.replace("\\\n", " ").splitlines()
        while rest:
            line = rest.pop(0)
            if line.startswith("# "):
                found[-1] = Command(found[-1].line, line[2:])
                continue
            line, _, shown = line.partition(" # ")
            if here := re.search(r"<<'(\w+)'", line):
                end = rest.index(here[1]) + 1
                line, rest = "\n".join([line, *rest[:end]]), rest[end:]
            if line.strip():
                found.append(Command(line.strip(), shown.strip()))
    return found


def fits(answer: str, shown: str) -> bool:
    """Whether `answer` is what the page shows, where `…` stands for anything and columns are as wide as they are."""
    answer, shown = (re.sub(r"\s+", " ", text).strip() for text in (answer, shown))
    return re.fullmatch(".*?".join(map(re.escape, shown.split("…"))), answer) is not None
