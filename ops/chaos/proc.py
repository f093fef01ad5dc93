"""Processes as the kernel reports them in /proc."""

import os
import signal
from contextlib import suppress
from pathlib import Path


def members(group_id: int) -> dict[int, str]:
    """The live processes of a process group: process id to the kernel's letter for its state (T is stopped)."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] not in {"Z", "X"} and int(fields[2]) == group_id:
            found[int(folder.name)] = fields[0]
    return found


def command_line(pid: int) -> str:
    """The command line of a process; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def children(pid: int) -> list[int]:
    """Ids of the direct children of a process; none if it is gone."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def kill_group(group_id: int) -> None:
    """SIGKILL every live process of a process group."""
    for pid in members(group_id):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
