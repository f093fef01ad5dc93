"""Our programs as processes, the way an operator runs them; started, killed, frozen and asked to stop by tests."""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bus.settings import BusSettings
from tests.support.forked import Process
from tests.support.waiting import gone

READY_S = 60.0


class Program:
    """One process of ours and what it logs, a JSON object per line."""

    def __init__(self, argv: list[str]) -> None:
        self._log = tempfile.NamedTemporaryFile(prefix="antiphon-log-", suffix=".jsonl")  # noqa: SIM115 - closed in end()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")}
        # Hundreds of engine hosts start in a run: none of them needs a pool of threads for numpy.
        environment["OPENBLAS_NUM_THREADS"] = "1"
        self.process = Process(argv, environment, self._log.name)

    @property
    def pid(self) -> int:
        return self.process.pid

    def events(self, name: str) -> list[dict[str, Any]]:
        """The events of this name that it has logged so far."""
        lines = self.whole_log().splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [event for event in found if event.get("event") == name]

    def wait_for(self, name: str, count: int = 1, within_s: float = READY_S) -> dict[str, Any]:
        """The `count`-th event of this name; fails with the log if it does not come or the process ends first."""
        deadline = time.monotonic() + within_s
        while len(found := self.events(name)) < count:
            assert self.process.poll() is None, f"exited {self.process.returncode} before {name!r}:\n{self.log()}"
            assert time.monotonic() < deadline, f"no {name!r} within {within_s} s:\n{self.log()}"
            time.sleep(0.01)
        return found[count - 1]

    def log(self) -> str:
        """The end of its log, for the message of a failed assertion."""
        return self.whole_log()[-6000:]

    def whole_log(self) -> str:
        """Everything that it has logged so far."""
        return Path(self._log.name).read_text()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)

    def stop(self, within_s: float = 20.0) -> int:
        """SIGTERM; the exit code. A process that does not end is killed, and the test fails."""
        self.process.terminate()
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()
        self.process.close()
        self._log.close()


def bus_flags(settings: BusSettings) -> list[str]:
    return [
        *("--nats", settings.nats, "--root", settings.root, "--ack-wait-s", str(settings.ack_wait_s)),
        *("--jobs-max-bytes", str(settings.jobs_max_bytes), "--replies-max-bytes", str(settings.replies_max_bytes)),
        *("--blobs-max-bytes", str(settings.blobs_max_bytes)),
        *("--log-format", "json", "--log-level", "debug"),
    ]


class Fleet:
    """Starts workers and gateways of one bus and ends them all with the test."""

    def __init__(self, settings: BusSettings) -> None:
        self.settings = settings
        self.programs: list[Program] = []

    def worker(self, name: str = "w1", models: str = "tone", slots: int = 8, *flags: str, wait: bool = True) -> Program:
        argv = ["worker", *bus_flags(self.settings), "--id", name, "--models", models, "--slots", str(slots)]
        program = self._start([*argv, "--allow-faults", *flags])
        if wait:
            program.wait_for("worker.ready")
        return program

    def gateway(self, *flags: str, wait: bool = True) -> tuple[Program, str]:
        """A gateway on a free port, and its URL (empty if not waited for)."""
        program = self._start(["gateway", *bus_flags(self.settings), "--port", "0", *flags])
        return program, str(program.wait_for("gateway.ready")["url"]) if wait else ""

    def _start(self, argv: list[str]) -> Program:
        program = Program(argv)
        self.programs.append(program)
        return program

    def end(self) -> None:
        for program in self.programs:
            program.end()


@contextmanager
def fleet_of(settings: BusSettings) -> Iterator[Fleet]:
    fleet = Fleet(settings)
    try:
        yield fleet
    finally:
        fleet.end()


def host_pid(worker: Program) -> int:
    """Of the worker's engine host that runs now."""
    return int(worker.events("host.started")[-1]["pid"])


def wait_gone(pid: int, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not gone(pid):
        assert time.monotonic() < deadline, f"process {pid} still there after {within_s} s"
        time.sleep(0.01)
