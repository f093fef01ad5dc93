"""A child process ends with its parent; the time that a thread takes."""

import signal
import subprocess
import sys
import time

import pytest

from bus.process import occupied_s

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux sends a signal when a parent dies")

CHILD = "from bus.process import die_with_parent; die_with_parent(); print('ready', flush=True); input()"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}], check=False)"


def test_a_child_ends_when_its_parent_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        parent.kill()
        # Parent and child write to one pipe: its end means that both are dead.
        assert parent.stdout.read() == ""


def test_a_parent_that_is_dead_already_ends_the_process_at_once() -> None:
    script = "import os, signal; from bus.process import die_with_parent; die_with_parent(1, signal.SIGTERM)"
    done = subprocess.run([sys.executable, "-c", script], timeout=30, check=False)
    assert done.returncode == -signal.SIGTERM


def test_a_thread_is_occupied_for_at_least_as_long_as_it_runs() -> None:
    before_s, ran_s = occupied_s(), time.thread_time()
    while time.thread_time() - ran_s < 0.02:
        pass
    assert occupied_s() - before_s >= 0.019  # the two clocks have different grains
