"""One program of the stack under test, started again as soon as it dies."""

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

#: What a dead process leaves behind must be gone after it had nothing to do for this long, and after six times that in
#: any case: on a busy machine its imports alone, after which it finds that it is alone, may take longer.
_ORPHANS_S: Final = 5.0
_MOST_ORPHANS: Final = 6
#: Stopped; running or waiting for a processor; waiting for a disk.
_STOPPED, _BUSY = "T", frozenset("RD")
_STOP_S: Final = 20.0


class Process:
    """One program of the stack; `keep` starts it again whenever it dies, except while `permitted` is clear."""

    def __init__(
        self,
        name: str,
        argv: Callable[[], Sequence[str]],
        log: Path,
        pass_fds: tuple[int, ...] = (),
        orphans_s: float = _ORPHANS_S,
    ) -> None:
        self.name = name
        self.permitted = asyncio.Event()
        self.permitted.set()
        self.frozen = False
        self.starts = 0
        #: Exit codes of deaths that nobody here caused.
        self.crashes: list[int] = []
        #: States and command lines of processes that outlived the head of their group.
        self.orphans: list[str] = []
        self._argv, self._log, self._pass_fds, self._orphans_s = argv, log, pass_fds, orphans_s
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
                        preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGKILL),
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
        now = time.monotonic()
        idle_by, gone_by = now + self._orphans_s, now + _MOST_ORPHANS * self._orphans_s
        while left := members(group_id):
            now, states = time.monotonic(), set(left.values())
            if _STOPPED in states:  # a freeze of the whole group met its head's death: nobody can go before the thaw
                gone_by = now + _MOST_ORPHANS * self._orphans_s
            if _STOPPED in states or states & _BUSY:
                idle_by = now + self._orphans_s
            if now > min(idle_by, gone_by):
                self.orphans += [f"[{state}] {command_line(pid)}" for pid, state in left.items()]
                kill_group(group_id)
                return
            await asyncio.sleep(min(0.25, self._orphans_s / 4))

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
