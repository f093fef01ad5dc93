"""One process of the stack under test, started again as soon as it dies."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from bus.process import die_with_parent
from ops.chaos.proc import command_line, kill_group, members

#: The children of a dead process must be gone after they were idle for this long, and after `_MAX_ORPHANS` times that
#: in any case: a child notices that its parent is gone only after its imports, which may take long on a busy machine.
_ORPHANS_S: Final = 5.0
_MAX_ORPHANS: Final = 6
#: The kernel's letter for a stopped process, and those for one that waits for a processor or a disk.
_STOPPED: Final = "T"
_BUSY: Final = frozenset("RD")
#: Between SIGTERM and SIGKILL.
_STOP_S: Final = 20.0


class Process:
    """One process of the stack; `keep` starts it again whenever it dies, except while `permitted` is clear."""

    def __init__(
        self,
        name: str,
        argv: Callable[[], Sequence[str]],
        log: Path,
        pass_fds: tuple[int, ...] = (),
        orphans_s: float = _ORPHANS_S,
    ) -> None:
        """`argv` is called at every start; the output is appended to `log`. `orphans_s` is for tests."""
        self.name = name
        self.permitted = asyncio.Event()
        self.permitted.set()
        self.frozen = False
        self.starts = 0
        #: Exit codes of the exits that this class did not cause.
        self.crashes: list[int] = []
        #: State and command line of each child that outlived the process.
        self.orphans: list[str] = []
        self._argv = argv
        self._log = log
        self._pass_fds = pass_fds
        self._orphans_s = orphans_s
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        #: Ids of processes that were sent a signal to end them.
        self._signalled: set[int] = set()

    @property
    def pid(self) -> int | None:
        """Id of the process that runs now; None between two lives."""
        return self._process.pid if self._process is not None else None

    async def keep(self) -> None:
        """Run the process, again and again, until `stop`. When cancelled it kills the process and all its children."""
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
                        preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGKILL),
                    )
                self.starts += 1
                self.frozen = False
                try:
                    code = await process.wait()
                except BaseException:
                    kill_group(process.pid)
                    raise
                self._process = None
                if not self._stopping and process.pid not in self._signalled:
                    self.crashes.append(code)
                    await asyncio.sleep(0.5)  # a process that crashes at once must not be started in a tight loop
                group.create_task(self._sweep(process.pid))

    async def _sweep(self, group_id: int) -> None:
        """Wait until all children of the dead process are gone; kill those that stay, and note them as orphans."""
        now = time.monotonic()
        idle_by, gone_by = now + self._orphans_s, now + _MAX_ORPHANS * self._orphans_s
        while left := members(group_id):
            now, states = time.monotonic(), set(left.values())
            if _STOPPED in states:  # the whole group was frozen when its head died: none can exit before the thaw
                gone_by = now + _MAX_ORPHANS * self._orphans_s
            if _STOPPED in states or states & _BUSY:
                idle_by = now + self._orphans_s
            if now > min(idle_by, gone_by):
                self.orphans += [f"[{state}] {command_line(pid)}" for pid, state in left.items()]
                kill_group(group_id)
                return
            await asyncio.sleep(min(0.25, self._orphans_s / 4))

    def kill(self) -> int | None:
        """SIGKILL this process alone. Returns its id, None if there is none."""
        return self.end_by(signal.SIGKILL)

    def end_by(self, number: signal.Signals) -> int | None:
        """Send a signal that ends this process; its exit is then no crash. Returns its id, None if there is none."""
        pid = self.pid
        if pid is not None:
            self._signalled.add(pid)
            with suppress(ProcessLookupError):  # dead already, and its exit code is still on its way to `keep`
                os.kill(pid, number)
        return pid

    def freeze(self, *, whole: bool) -> Callable[[], None]:
        """SIGSTOP the process, or its `whole` group. Returns a function that thaws it, if it still lives."""
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
            if self.pid == pid or whole:  # children of a head that was killed meanwhile are still frozen
                with suppress(ProcessLookupError):
                    send(pid, signal.SIGCONT)

        return thaw

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after 20 s, which counts as a crash. Returns when the process is gone."""
        self._stopping = True
        self.permitted.set()
        if self.pid is None:
            return
        pid = self.end_by(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_S
        while self.pid == pid:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.02)
        if self.pid == pid and pid is not None:
            self.crashes.append(-signal.SIGKILL)
            kill_group(pid)
