"""The process and its system: a child that ends with its parent, memory that is given back. Standard library only."""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_M_MMAP_THRESHOLD: Final = -3
#: Looked up at import: `die_with_parent` may run between fork and exec, where loading a library could deadlock.
_prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None


def die_with_parent(parent_pid: int | None = None, number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send `number` to this process when its parent dies.

    With `parent_pid`, also send it at once if that parent has died already: it may die between fork and this call, and
    the kernel's signal would never come. Fit for `preexec_fn`. Only Linux offers this; elsewhere it does nothing, and
    children outlive a parent that was killed.
    """
    if _prctl is None:
        return
    _prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if parent_pid is not None and os.getppid() != parent_pid:
        os.kill(os.getpid(), number)


def trim_memory() -> None:
    """Return the free pages of the C library's heaps to the system; takes milliseconds. Without glibc it does nothing.

    Calls of malloc in other threads wait meanwhile.
    """
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if malloc_trim is not None:
        malloc_trim(0)


def occupied_s() -> float:
    """Seconds for which the calling thread has run or has waited for a CPU; where the system counts no waits, has run.

    Source: `schedstat` of proc(5), in nanoseconds: the time on a CPU, the time in a run queue, the number of slices.
    """
    try:
        ran, waited, _ = Path("/proc/thread-self/schedstat").read_text().split()
    except (OSError, ValueError):
        return time.thread_time()
    return (int(ran) + int(waited)) / 1e9


def give_memory_back(threshold_bytes: int) -> None:
    """Have the C library map each block of at least `threshold_bytes` by itself, so that freeing it gives it back.

    By default glibc raises its threshold to the largest block that was freed, up to 32 MiB. Blocks below it come from a
    heap that shrinks at its end only: one that lives on keeps everything below it. Without glibc this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, threshold_bytes)
