"""The supervisor, on real child processes."""

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from ops.local.supervisor import (
    FIRST_DELAY_S,
    MAX_DELAY_S,
    USAGE_ERROR,
    Child,
    Launch,
    LaunchError,
    Spec,
    _output,
    delay_s,
    stop_all,
    supervised,
)
from tests.support.waiting import eventually, gone


class Output:
    """The output of the children, line by line, and a way to wait for more of it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._more = asyncio.Event()

    def write(self, data: bytes) -> None:
        assert data.endswith(b"\n")
        self.lines += data.decode().splitlines()
        self._more.set()

    async def wait_for(self, count: int) -> list[str]:
        async with asyncio.timeout(30):
            while len(self.lines) < count:
                self._more.clear()
                await self._more.wait()
        return self.lines


def script(text: str) -> Callable[[], Launch]:
    return lambda: Launch(argv=(sys.executable, "-u", "-c", text))


WAITS = "import time; print('up'); time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(60)"


@pytest.fixture
def output() -> Output:
    return Output()


@pytest.fixture
async def start(output: Output) -> AsyncIterator[Callable[..., Child]]:
    async with supervised(output.write) as start:

        def started(launch: Callable[[], Launch], name: str = "one", patience_s: float = 5.0) -> Child:
            return start(Spec(name, launch, patience_s))

        yield started


@pytest.mark.parametrize("deaths", range(1, 40))
def test_the_delay_doubles_from_its_first_value_to_its_cap(deaths: int) -> None:
    assert delay_s(deaths) == pytest.approx(min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** (deaths - 1)))


async def test_a_child_that_is_killed_is_started_again(start: Callable[..., Child], output: Output) -> None:
    child = start(script("import os, time; print(os.getpid()); time.sleep(60)"))
    first = int((await output.wait_for(1))[0])
    assert child.pid == first
    os.kill(first, signal.SIGKILL)
    second = int((await output.wait_for(2))[1])
    assert child.pid == second != first
    assert child.starts == 2


async def test_a_restart_calls_for_the_command_line_again(start: Callable[..., Child], output: Output) -> None:
    numbers = itertools.count()

    def launch() -> Launch:
        return script(f"print({next(numbers)})")()

    start(launch)
    assert await output.wait_for(2) == ["0", "1"]


async def test_a_launch_that_is_impossible_now_is_tried_again(start: Callable[..., Child], output: Output) -> None:
    attempts = iter([LaunchError("the port is taken")])

    def launch() -> Launch:
        for error in attempts:
            raise error
        return script(WAITS)()

    start(launch)
    assert await output.wait_for(1) == ["up"]


async def test_stopping_ends_the_child_for_good(start: Callable[..., Child], output: Output) -> None:
    child = start(script(WAITS))
    await output.wait_for(1)
    pid = child.pid
    async with asyncio.timeout(20):
        await child.stop()
        await child.stop()
    assert gone(pid)
    assert (child.pid, child.starts) == (None, 1)


@pytest.mark.parametrize("text", [WAITS, STUBBORN])
async def test_a_renewed_child_ends_and_is_started_again(
    start: Callable[..., Child], output: Output, text: str
) -> None:
    child = start(script(text), patience_s=0.3)
    await output.wait_for(1)
    before = child.pid
    assert before is not None
    await child.restart()
    await output.wait_for(2)
    assert gone(before)
    assert child.pid not in {None, before}


async def test_a_child_that_ignores_sigterm_is_killed_after_its_patience_while_others_are_not_delayed(
    start: Callable[..., Child], output: Output
) -> None:
    stubborn, willing = start(script(STUBBORN), "stubborn", 0.3), start(script(WAITS), "willing")
    await output.wait_for(2)
    pid, began = stubborn.pid, asyncio.get_running_loop().time()
    async with asyncio.timeout(20):
        await stop_all([willing, stubborn])
    assert asyncio.get_running_loop().time() - began >= 0.3
    assert gone(pid)


async def test_stopping_between_two_lives_does_not_wait_for_the_next(
    start: Callable[..., Child], output: Output
) -> None:
    child = start(script("print('brief')"))
    await output.wait_for(1)
    async with asyncio.timeout(20):
        await eventually(lambda: child.pid is None)
        await child.stop()
    assert child.starts == 1


async def test_a_child_that_is_stopped_while_it_is_being_started_does_not_stay(
    start: Callable[..., Child], output: Output
) -> None:
    child = start(script(WAITS))
    async with asyncio.timeout(20):
        await child.stop()
    assert child.pid is None


async def test_what_a_dead_child_left_behind_dies_too(start: Callable[..., Child], output: Output) -> None:
    start(
        script(
            "import subprocess, sys, time\n"
            "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
            "print(p.pid); time.sleep(60)"
        )
    )
    grandchild = int((await output.wait_for(1))[0])
    parent = int(Path(f"/proc/{grandchild}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    await output.wait_for(2)  # the next life
    await eventually(lambda: gone(grandchild))


async def test_lines_pass_unchanged_and_whole_whatever_their_length(
    start: Callable[..., Child], output: Output
) -> None:
    start(
        script("import os, time\nos.write(2, b'a' * 200_000 + b'\\nhalf'); os.write(1, b'-line\\nlast'); os._exit(0)")
    )
    lines = await output.wait_for(3)
    assert lines[:3] == ["a" * 200_000, "half-line", "last"]


async def test_the_last_line_of_a_life_passes_before_the_next_begins(output: Output) -> None:
    async with _output(script("")(), output.write) as (descriptor, _):
        os.write(descriptor, b"last\n")
    assert output.lines == ["last"]


async def test_a_usage_error_is_distinguished_from_a_death(start: Callable[..., Child], output: Output) -> None:
    wrong, dying = start(script(f"raise SystemExit({USAGE_ERROR})")), start(script("print('x'); raise SystemExit(1)"))
    async with asyncio.timeout(20):
        await wrong.refused.wait()
    await output.wait_for(2)
    assert not dying.refused.is_set()


async def test_leaving_the_block_kills_what_was_not_stopped(output: Output) -> None:
    async with supervised(output.write) as start:
        child = start(Spec("one", script(STUBBORN), 60.0))
        await output.wait_for(1)
        pid = child.pid
    await eventually(lambda: gone(pid))


ORPHAN = """
import asyncio, sys
from ops.local.supervisor import Launch, Spec, supervised
async def main():
    async with supervised(lambda line: print(line.decode(), end="", flush=True)) as start:
        start(Spec("one", lambda: Launch(argv=(sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)")), 5.0))
        await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_children_die_with_a_supervisor_that_is_killed() -> None:
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ORPHAN, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[4]
    )
    assert supervisor.stdout is not None
    async with asyncio.timeout(30):
        while not (line := await supervisor.stdout.readline()).strip().isdigit():
            assert line, "the supervisor ended early"
        supervisor.kill()
        await supervisor.wait()
        await supervisor.stdout.read()  # else its transport may be left open
        pid = int(line)
        await eventually(lambda: gone(pid))
