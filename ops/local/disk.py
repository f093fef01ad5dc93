"""A nats-server whose disk was full takes nothing until it is started anew: done here, once there is room again.

The server tells it by itself: after one failed write its health stays `write error: …`, whatever is freed later.
Nothing that was acknowledged is lost by that: what it could not write it did not acknowledge.
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

_LOOK_S: Final = 2.0
#: Room to begin again with: so much, or this share of a disk too small for it.
_ROOM_BYTES: Final = 64 << 20
_ROOM_SHARE: Final = 0.05
#: One node is not started anew more often: a disk may have room and yet refuse every write.
_PAUSE_S: Final = 30.0
_UNWRITABLE: Final = re.compile(r"write error|no space left|JetStream not enabled", re.IGNORECASE)


class Disks:
    """Watches the stores of `up`."""

    def __init__(self, servers: Mapping[Child, Node], look_s: float = _LOOK_S) -> None:
        self._servers, self._look_s = servers, look_s
        #: Those known to be stuck.
        self._full: set[Child] = set()
        self._renewed_at: dict[Child, float] = {}

    async def keep(self) -> None:
        """Look until cancelled."""
        while True:
            for child, node in self._servers.items():
                await self._look(child, node)
            await asyncio.sleep(self._look_s)

    async def _look(self, child: Child, node: Node) -> None:
        pid = child.pid
        trouble = await asyncio.to_thread(nats_server.trouble, node.folder, pid) if pid is not None else ""
        if not _UNWRITABLE.search(trouble):
            self._full.discard(child)
            return
        free_bytes, wanted_bytes = room(node)
        if child not in self._full:
            self._full.add(child)
            log.error(
                "disk.full", child=child.spec.name, error=trouble, free_bytes=free_bytes, wanted_bytes=wanted_bytes
            )
        rested = time.monotonic() - self._renewed_at.get(child, -_PAUSE_S) >= _PAUSE_S
        if free_bytes >= wanted_bytes and rested:
            self._renewed_at[child] = time.monotonic()
            log.warning("disk.has_room", child=child.spec.name, free_bytes=free_bytes)
            await child.renew()


def room(node: Node) -> tuple[int, int]:
    """(free bytes of the disk of its store, how many it takes to begin again)."""
    disk = shutil.disk_usage(node.folder)
    return disk.free, min(_ROOM_BYTES, int(disk.total * _ROOM_SHARE))
