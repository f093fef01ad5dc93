"""A child process ends with its parent."""

import signal
import subprocess
import sys

import pytest

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
