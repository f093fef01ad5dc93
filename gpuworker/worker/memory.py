"""Main memory of processes, as the kernel tells of it."""

import os
from pathlib import Path


def resident_bytes(pid: int | None) -> int | None:
    """Of a process; None if there is none, or none any more, or no /proc."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
