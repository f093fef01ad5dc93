"""A store of `antiphon up`, filled and then damaged on purpose."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bus.jobs.client import Bus, open_bus
from bus.settings import BusSettings
from ops.local.nats_server import locked, prepare
from tests.support.nats import running


@asynccontextmanager
async def stored(folder: Path, root: str = "antiphon") -> AsyncIterator[Bus]:
    """The bus of a nats-server on the store in `folder`, which is stopped after the block."""
    with locked(folder) as lock, running(prepare(folder, lock, port=0)) as (_, endpoints):
        async with open_bus(BusSettings(nats=endpoints.nats, root=root), "test") as bus:
            yield bus


def stream_folder(folder: Path, stream: str) -> Path:
    """Where the server keeps a stream."""
    return folder / "js" / "jetstream" / "$G" / "streams" / stream


def cut_in_half(path: Path) -> None:
    """Keep the first half of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def overwrite(path: Path, offset: int, size: int = 200) -> None:
    """Replace `size` bytes at `offset` by random ones."""
    content = bytearray(path.read_bytes())
    content[offset : offset + size] = os.urandom(min(size, len(content) - offset))
    path.write_bytes(content)


def block_of(folder: Path) -> Path:
    """The largest file of messages in `folder`."""
    return max(folder.glob("*.blk"), key=lambda path: path.stat().st_size)
