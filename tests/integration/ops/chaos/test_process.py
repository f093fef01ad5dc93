"""Children of a process of the chaos stack, after it was killed."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ops.chaos.proc import children, command_line, members
from ops.chaos.process import Process
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

WITHIN_S = 30.0
#: Its child leaves when the head does: its standard input ends.
FAITHFUL = "import subprocess; subprocess.Popen(['cat'], stdin=subprocess.PIPE).wait()"
#: Its child stays.
CARELESS = "import subprocess; subprocess.Popen(['sleep', '60']).wait()"
#: Its child notices that the head is gone, and computes for a while before it exits.
BUSY = "import sys, time; sys.stdin.read(); end = time.monotonic() + {}\nwhile time.monotonic() < end: pass"


@asynccontextmanager
async def kept(code: str, folder: Path, orphans_s: float) -> AsyncIterator[tuple[Process, int]]:
    """A running process with one child, and the id of its group."""
    process = Process("p", lambda: (sys.executable, "-c", code), folder / "p.log", orphans_s=orphans_s)
    keeping = asyncio.create_task(process.keep())
    try:
        # Not just forked: its parent waits in the kernel until it has become another program. And asleep by now.
        await eventually(lambda: process.pid and any(map(has_begun, children(process.pid))), WITHIN_S)
        await eventually(lambda: process.pid and set(members(process.pid).values()) == {"S"}, WITHIN_S)
        assert process.pid is not None
        yield process, process.pid
    finally:
        await process.stop()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


def has_begun(child: int) -> bool:
    return command_line(child).startswith(("cat", "sleep", f"{sys.executable} -c import sys"))


def busy(for_s: float) -> str:
    child = (sys.executable, "-c", BUSY.format(for_s))
    return f"import subprocess; subprocess.Popen({child!r}, stdin=subprocess.PIPE).wait()"


def lonely(head: int) -> Callable[[], bool]:
    """Whether the head of a group is gone and its child is not."""
    return lambda: members(head).keys() - {head} == members(head).keys() != set()


async def test_a_child_that_stays_is_reported_with_its_state_and_killed(tmp_path: Path) -> None:
    async with kept(CARELESS, tmp_path, orphans_s=0.3) as (process, head):
        process.kill()
        await eventually(lambda: process.orphans, WITHIN_S)
        assert process.orphans == ["[S] sleep 60"]
        await eventually(lambda: not members(head), WITHIN_S)


async def test_a_child_that_is_stopped_when_its_head_dies_has_its_time_after_the_thaw(tmp_path: Path) -> None:
    async with kept(FAITHFUL, tmp_path, orphans_s=2.0) as (process, head):
        thaw = process.freeze(whole=True)
        await eventually(lambda: set(members(head).values()) == {"T"}, WITHIN_S)
        process.end_by(signal.SIGKILL)
        await eventually(lonely(head), WITHIN_S)
        await asyncio.sleep(3.0)  # more than a child that is not stopped may take, and two looks at it
        assert lonely(head)()
        thaw()
        await eventually(lambda: not members(head), WITHIN_S)
        assert process.orphans == []


async def test_a_child_that_is_at_work_has_its_time_once_it_rests(tmp_path: Path) -> None:
    async with kept(busy(3.0), tmp_path, orphans_s=1.0) as (process, head):
        process.kill()
        await eventually(lambda: not members(head), WITHIN_S)
        assert process.orphans == []


async def test_a_child_that_is_at_work_for_ever_is_reported_too(tmp_path: Path) -> None:
    async with kept(busy(60.0), tmp_path, orphans_s=0.3) as (process, _):
        process.kill()
        await eventually(lambda: process.orphans, WITHIN_S)
        assert [sys.executable in orphan for orphan in process.orphans] == [True]
