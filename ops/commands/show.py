"""`antiphon jobs` and `fleet`: what a running gateway tells, as a table for people or as its own JSON."""

import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ops.commands.http import answer, wait_for
from ops.settings import ClientSettings

_JOB_COLUMNS = ("id", "state", "model", "seconds", "worker", "attempts")
#: Columns of a page that nobody looks at.
_WIDE = 1000
_WORKER_COLUMNS = ("id", "state", "host", "pid", "models", "slots", "in_flight")


def show_fleet(at: ClientSettings, *, as_json: bool) -> None:
    """Raises OpsError, like all here."""
    told = wait_for(answer(at, "GET", "/v1/fleet"))
    print_told(told, lambda: table(_WORKER_COLUMNS, told["workers"], "no worker"), as_json=as_json)


def show_jobs(at: ClientSettings, limit: int, *, as_json: bool) -> None:
    told = wait_for(answer(at, "GET", f"/v1/jobs?limit={limit}"))
    print_told(told, lambda: table(_JOB_COLUMNS, told["jobs"], "no jobs"), as_json=as_json)


def show_job(at: ClientSettings, job: str, *, as_json: bool) -> None:
    told = wait_for(answer(at, "GET", f"/v1/jobs/{quote(job, safe='')}"))
    print_told(told, lambda: fields(told), as_json=as_json)


def cancel(at: ClientSettings, job: str, *, as_json: bool) -> None:
    told = wait_for(answer(at, "DELETE", f"/v1/jobs/{quote(job, safe='')}")) or {}
    print_told(told, lambda: print(f"{job}: {told.get('state', 'cancelled')}"), as_json=as_json)


def print_told(told: Any, for_people: Callable[[], None], *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(told).decode())
    else:
        for_people()


def table(columns: tuple[str, ...], rows: list[dict[str, Any]], none: str) -> None:
    """The first column names a row and is never cut: it is what the next command is given."""
    if not rows:
        _console().print(none)
        return
    table = Table(box=None, pad_edge=False)
    for number, column in enumerate(columns):
        longest = max(len(_cell(row.get(column))) for row in rows)
        table.add_column(column, no_wrap=number == 0, min_width=longest if number == 0 else None)
    for row in rows:
        table.add_row(*(Text(_cell(row.get(column))) for column in columns))
    _console().print(table)


def fields(told: dict[str, Any]) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in told.items():
        table.add_row(name, Text(_cell(value)))
    _console().print(table)


def _console() -> Console:
    """As wide as the terminal; what goes to a file or to another program is not broken into lines."""
    return Console() if sys.stdout.isatty() else Console(width=_WIDE)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {_cell(each)}" for key, each in value.items())
    return f"{value:.2f}" if isinstance(value, float) else str(value)
