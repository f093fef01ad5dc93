"""`antiphon jobs` and `antiphon fleet`: the answers of a gateway, as a table or as its own JSON.

The commands here raise OpsError.
"""

import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ops.commands.http import fetch_json, run_async
from ops.settings import ClientSettings

_JOB_COLUMNS = ("id", "state", "model", "seconds", "worker", "attempts")
_WORKER_COLUMNS = ("id", "state", "host", "pid", "models", "slots", "in_flight")
#: Columns of output that goes to a file or another program: wide enough that no line is broken.
_WIDE = 1000


def show_fleet(settings: ClientSettings, *, as_json: bool) -> None:
    """Print every worker with its state, its models and its load."""
    fleet = run_async(fetch_json(settings, "GET", "/v1/fleet"))
    print_result(fleet, lambda: print_table(_WORKER_COLUMNS, fleet["workers"], "no worker"), as_json=as_json)


def show_jobs(settings: ClientSettings, limit: int, *, as_json: bool) -> None:
    """Print the newest jobs of the caller's tenant, at most `limit`."""
    page = run_async(fetch_json(settings, "GET", f"/v1/jobs?limit={limit}"))
    print_result(page, lambda: print_table(_JOB_COLUMNS, page["jobs"], "no jobs"), as_json=as_json)


def show_job(settings: ClientSettings, job: str, *, as_json: bool) -> None:
    """Print the state, progress and timings of one job."""
    view = run_async(fetch_json(settings, "GET", f"/v1/jobs/{quote(job, safe='')}"))
    print_result(view, lambda: print_fields(view), as_json=as_json)


def cancel(settings: ClientSettings, job: str, *, as_json: bool) -> None:
    """Cancel one job and print its state."""
    view = run_async(fetch_json(settings, "DELETE", f"/v1/jobs/{quote(job, safe='')}")) or {}
    print_result(view, lambda: print(f"{job}: {view.get('state', 'cancelled')}"), as_json=as_json)


def print_result(result: Any, print_text: Callable[[], None], *, as_json: bool) -> None:
    """Print `result` as one line of JSON, or call `print_text`."""
    if as_json:
        print(msgspec.json.encode(result).decode())
    else:
        print_text()


def print_table(columns: tuple[str, ...], rows: list[dict[str, Any]], none: str) -> None:
    """Print `rows`, or the text `none`. The first column is never cut: it is the argument of the next command."""
    if not rows:
        _console().print(none)
        return
    table = Table(box=None, pad_edge=False)
    for number, column in enumerate(columns):
        longest = max(len(_cell(row.get(column))) for row in rows)
        table.add_column(column, no_wrap=number == 0, min_width=longest if number == 0 else None)
    for row in rows:
        table.add_row(*(Text(_cell(row.get(column))) for column in columns))
    _print(table)


def print_fields(values: dict[str, Any]) -> None:
    """Print one line for each field: its name and its value."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in values.items():
        table.add_row(name, Text(_cell(value)))
    _print(table)


def _print(table: Table) -> None:
    """Print `table` without the spaces that pad its last column."""
    console = _console()
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())


def _console() -> Console:
    """As wide as the terminal; output for a file or another program is not broken into lines."""
    return Console() if sys.stdout.isatty() else Console(width=_WIDE)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    if isinstance(value, dict):
        if "message" in value and "code" in value:
            at = f" at {value['path']}" if value.get("path") else ""
            return f"{value['message']} ({value['code']}{at})"
        return ", ".join(f"{key} {_cell(each)}" for key, each in value.items())
    return f"{value:.2f}" if isinstance(value, float) else str(value)
