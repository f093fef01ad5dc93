"""`antiphon up` with a real nats-server, and small programs standing in for the gateway and the workers."""

import asyncio
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ops.local.node import Node
from ops.local.plan import Plan
from ops.local.stack import Stack, up
from ops.local.system import free_port
from ops.settings import UpSettings
from tests.support import stand_in


class StandIns(Plan, frozen=True):
    fleet_file: Path
    worker_role: str = "worker"

    def gateway_command(self) -> list[str]:
        return [
            sys.executable,
            "-P",
            stand_in.__file__,
            "gateway",
            "--port",
            str(self.http_port),
            "--fleet-file",
            str(self.fleet_file),
        ]

    def worker_command(self, worker: str) -> list[str]:
        return [sys.executable, "-P", stand_in.__file__, self.worker_role, "--id", worker]

    def set_fleet(
        self,
        workers: Iterable[str],
        models: Iterable[str] = ("speech", "tone"),
        failed: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """The fleet from now on. The file is replaced as a whole: the gateway may read it at any time."""
        part = self.fleet_file.with_suffix(".part")
        fleet = [{"id": worker, "models": list(models)} for worker in workers]
        part.write_text(json.dumps({"workers": fleet, "failed": failed or {}}))
        part.replace(self.fleet_file)


def stand_ins(folder: Path, **more: Any) -> StandIns:
    """A plan with its state under `folder`; `more`: settings."""
    return StandIns(
        settings=UpSettings(state=str(folder / "state"), workers=2, drain_s=1.0, **more),
        engines=("speech", "tone"),
        models=("speech", "tone"),
        http_port=free_port("127.0.0.1"),
        nodes=(Node("nats", folder / "state" / "nats", free_port("127.0.0.1")),),
        cluster=None,
        config=None,
        fleet_file=folder / "fleet.json",
    )


class Running:
    """The stack in a task of its own, and the result that it announced."""

    def __init__(self, plan: Plan) -> None:
        self.stop = asyncio.Event()
        self.ready: asyncio.Future[Stack] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(up(plan, self.stop, lambda _, stack: self.ready.set_result(stack)))

    async def stack(self) -> Stack:
        async with asyncio.timeout(30):
            await asyncio.wait((self.ready, self.task), return_when=asyncio.FIRST_COMPLETED)
            return self.ready.result() if self.ready.done() else await self._failed()

    async def _failed(self) -> Stack:
        await self.task
        raise AssertionError("the stack ended before it was ready")

    async def end(self) -> None:
        self.stop.set()
        async with asyncio.timeout(30):
            await self.task
