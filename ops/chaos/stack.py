"""The processes under test: one nats-server, the gateways, the workers; each started again as soon as it dies."""

import asyncio
import os
import random
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from bus.settings import BusSettings
from ops import nats_server
from ops.chaos.proc import command_line, kill_group, members
from ops.errors import OpsError
from ops.system import dies_with_parent, ourselves, port_is_free

HOST: Final = "127.0.0.1"
#: Name of the nats-server among the processes.
NATS: Final = "nats"
_PORTS: Final = range(20_000, 30_000)
#: A nats-server that is not healthy after this long is a failure of its own.
_NATS_READY_S: Final = 60.0
#: What a dead process leaves behind must be gone after this long.
_ORPHANS_S: Final = 5.0
_STOP_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Size:
    """What to start, and how it is set."""

    workers: int
    gateways: int
    slots: int
    models: tuple[str, ...]
    ack_wait_s: float
    max_store_bytes: int
    replies_max_bytes: int
    #: A file system of its own for the store, of so many bytes, so that it can become full; 0: none. Needs root.
    disk_bytes: int = 0


class Process:
    """One program of the stack; `keep` starts it again whenever it dies, except while `permitted` is clear."""

    def __init__(self, name: str, argv: Callable[[], Sequence[str]], log: Path, pass_fds: tuple[int, ...] = ()) -> None:
        self.name = name
        self.permitted = asyncio.Event()
        self.permitted.set()
        self.frozen = False
        self.starts = 0
        #: Exit codes of deaths that nobody here caused.
        self.crashes: list[int] = []
        #: Command lines of processes that outlived the head of their group.
        self.orphans: list[str] = []
        self._argv, self._log, self._pass_fds = argv, log, pass_fds
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._doomed: set[int] = set()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def keep(self) -> None:
        """Until `stop`; cancelled, it kills the process and all its children."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")}
        async with asyncio.TaskGroup() as group:
            while not self._stopping:
                await self.permitted.wait()
                with self._log.open("ab") as out:
                    process = self._process = await asyncio.create_subprocess_exec(
                        *self._argv(),
                        stdin=asyncio.subprocess.DEVNULL,
                        stdout=out,
                        stderr=out,
                        env=environment,
                        pass_fds=self._pass_fds,
                        start_new_session=True,
                        preexec_fn=dies_with_parent(signal.SIGKILL),
                    )
                self.starts, self.frozen = self.starts + 1, False
                try:
                    code = await process.wait()
                except BaseException:
                    kill_group(process.pid)
                    raise
                self._process = None
                if not self._stopping and process.pid not in self._doomed:
                    self.crashes.append(code)
                    await asyncio.sleep(0.5)  # not as fast as it can crash
                group.create_task(self._sweep(process.pid))

    async def _sweep(self, group_id: int) -> None:
        """See that whatever the dead process had started goes too."""
        deadline = time.monotonic() + _ORPHANS_S
        while left := members(group_id):
            if time.monotonic() > deadline:
                self.orphans += [command_line(pid) for pid in left]
                kill_group(group_id)
                return
            await asyncio.sleep(0.25)

    def kill(self) -> int | None:
        """`kill -9`, of this process alone. Returns its id, None if there is none."""
        return self.doom(signal.SIGKILL)

    def doom(self, number: signal.Signals) -> int | None:
        pid = self.pid
        if pid is not None:
            self._doomed.add(pid)
            with suppress(ProcessLookupError):  # dead already, and its end is just on its way to us
                os.kill(pid, number)
        return pid

    def freeze(self, *, whole: bool) -> Callable[[], None]:
        """SIGSTOP; returns what thaws it again, if it still lives. `whole`: its process group too."""
        pid = self.pid
        if pid is None:
            return lambda: None
        send = os.killpg if whole else os.kill
        self.frozen = True
        with suppress(ProcessLookupError):
            send(pid, signal.SIGSTOP)

        def thaw() -> None:
            if self.pid == pid:
                self.frozen = False
            if self.pid == pid or whole:  # of a group whose head was killed meanwhile the rest is still to be thawed
                with suppress(ProcessLookupError):
                    send(pid, signal.SIGCONT)

        return thaw

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL if that is not heard."""
        self._stopping = True
        self.permitted.set()
        if self.pid is None:
            return
        pid = self.doom(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_S
        while self.pid == pid:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.02)
        if self.pid == pid and pid is not None:
            self.crashes.append(-signal.SIGKILL)
            kill_group(pid)


class Stack:
    """Made by `running`."""

    def __init__(self, nats: Process, gateways: list[Process], workers: list[Process], urls: list[str]) -> None:
        self.nats, self.gateways, self.workers, self.urls = nats, gateways, workers, urls
        self.settings = BusSettings()
        self.state = Path()

    @property
    def processes(self) -> list[Process]:
        return [self.nats, *self.gateways, *self.workers]

    @property
    def monitoring(self) -> str:
        """The nats-server's monitoring address. Raises OpsError while it is down."""
        pid = self.nats.pid
        endpoints = nats_server.ready(self.state, pid) if pid is not None else None
        if endpoints is None:
            raise OpsError("nats-server is down")
        return endpoints.monitoring

    @property
    def store(self) -> Path:
        """Where JetStream keeps everything."""
        return self.state / "js"


@asynccontextmanager
async def running(folder: Path, size: Size) -> AsyncIterator[Stack]:
    """Start everything under `folder`, which keeps the logs; stop everything after the block.

    Raises OpsError if nats-server does not come up.
    """
    state = folder / "nats"
    with nats_server.locked(state) as lock, _disk(state / "js", size.disk_bytes):
        nats_port, *ports = _ports(1 + size.gateways)

        def nats_argv() -> Sequence[str]:
            return nats_server.prepare(state, lock, port=nats_port, max_store_bytes=size.max_store_bytes).argv

        nats = Process(NATS, nats_argv, folder / "nats.out", (lock,))
        settings = BusSettings(
            nats=f"nats://{HOST}:{nats_port}", ack_wait_s=size.ack_wait_s, replies_max_bytes=size.replies_max_bytes
        )
        gateways = [
            Process(f"gateway-{port}", _argv("gateway", settings, "--port", str(port)), folder / f"gateway-{port}.log")
            for port in ports
        ]
        workers = [_worker(f"w{number}", settings, size, folder) for number in range(1, size.workers + 1)]
        stack = Stack(nats, gateways, workers, [f"http://{HOST}:{port}" for port in ports])
        stack.settings, stack.state = settings, state
        async with asyncio.TaskGroup() as group:
            keepers = [group.create_task(nats.keep())]
            try:
                await _healthy(stack)
                keepers += [group.create_task(process.keep()) for process in (*gateways, *workers)]
                yield stack
                for some in (workers, gateways, [nats]):
                    await asyncio.gather(*(process.stop() for process in some))
            finally:
                for keeper in keepers:
                    keeper.cancel()


@contextmanager
def _disk(folder: Path, num_bytes: int) -> Iterator[None]:
    """`folder` as a file system of its own for the length of the block. Raises OpsError if it cannot be mounted."""
    if not num_bytes:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={num_bytes}", "antiphon-chaos", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise OpsError(f"--kinds disk mounts a small file system, which needs root: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _ports(count: int) -> list[int]:
    """Free ones that no outgoing connection is given while their server is down: below the kernel's own range."""
    found = (port for port in random.sample(_PORTS, len(_PORTS)) if port_is_free(HOST, port))
    return list(islice(found, count))


def _argv(command: str, settings: BusSettings, *flags: str) -> Callable[[], Sequence[str]]:
    argv = [
        *(*ourselves(), command, "--nats", settings.nats, "--root", settings.root),
        *("--ack-wait-s", f"{settings.ack_wait_s:g}", "--replies-max-bytes", str(settings.replies_max_bytes)),
        *("--log-format", "json", "--log-level", "info", "--drain-s", "3", *flags),
    ]
    return lambda: argv


def _worker(name: str, settings: BusSettings, size: Size, folder: Path) -> Process:
    """`--max-attempts` is beyond what chaos can do to one job: only what is poisonous may be given up."""
    flags = ("--id", name, "--models", ",".join(size.models), "--slots", str(size.slots))
    more = ("--allow-faults", "--stall-s", "5", "--max-attempts", "100")
    return Process(name, _argv("worker", settings, *flags, *more), folder / f"{name}.log")


async def _healthy(stack: Stack) -> None:
    deadline = time.monotonic() + _NATS_READY_S
    while stack.nats.pid is None or nats_server.ready(stack.state, stack.nats.pid) is None:
        if time.monotonic() > deadline:
            raise OpsError(f"nats-server is not healthy:\n{nats_server.log_tail(stack.state)}")
        await asyncio.sleep(0.02)
