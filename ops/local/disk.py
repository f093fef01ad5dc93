"""Restarts a nats-server whose disk was full, once there is room again: until then it stores no message.

After one failed write the server reports `write error: …` as its health for the rest of its life, also when the disk
has room again. Nothing acknowledged is lost by that: the server acknowledges only messages that it has written.
"""

import asyncio
import re
import shutil
import time
from collections.abc import Mapping
from typing import Final

from bus.telemetry.logging import logger
from ops.local import nats_server
from ops.local.node import Node
from ops.local.supervisor import Child

log = logger(__name__)

_POLL_S: Final = 2.0
#: Free space that a restart needs: this much, or this share of a disk that is too small for it.
_MIN_FREE_BYTES: Final = 64 << 20
_MIN_FREE_SHARE: Final = 0.05
#: Between two restarts of one node: a disk may have room and refuse every write all the same.
_PAUSE_S: Final = 30.0
_UNWRITABLE: Final = re.compile(r"write error|no space left|JetStream not enabled", re.IGNORECASE)


class DiskMonitor:
    """Checks the health of the nats-servers of `antiphon up`, every `poll_s` seconds."""

    def __init__(self, servers: Mapping[Child, Node], poll_s: float = _POLL_S) -> None:
        self._servers = servers
        self._poll_s = poll_s
        #: Servers whose disk was full and that were not restarted yet.
        self._full: set[Child] = set()
        #: Monotonic seconds.
        self._restarted_at: dict[Child, float] = {}

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            for child, node in self._servers.items():
                await self._check(child, node)
            await asyncio.sleep(self._poll_s)

    async def _check(self, child: Child, node: Node) -> None:
        pid = child.pid
        error = await asyncio.to_thread(nats_server.health_error, node.folder, pid) if pid is not None else ""
        if not _UNWRITABLE.search(error):
            self._full.discard(child)
            return
        free_bytes, wanted_bytes = disk_space(node)
        if child not in self._full:
            self._full.add(child)
            log.error("disk.full", child=child.spec.name, error=error, free_bytes=free_bytes, wanted_bytes=wanted_bytes)
        rested = time.monotonic() - self._restarted_at.get(child, -_PAUSE_S) >= _PAUSE_S
        if free_bytes >= wanted_bytes and rested:
            self._restarted_at[child] = time.monotonic()
            log.warning("disk.has_room", child=child.spec.name, free_bytes=free_bytes)
            await child.restart()


def disk_space(node: Node) -> tuple[int, int]:
    """(free bytes of the disk that holds its store, free bytes that a restart needs)."""
    disk = shutil.disk_usage(node.folder)
    return disk.free, min(_MIN_FREE_BYTES, int(disk.total * _MIN_FREE_SHARE))
