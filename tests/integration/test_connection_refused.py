"""A server that takes no connection of ours is told from one that is not there."""

import asyncio

import msgspec
import pytest

from bus.connection import Connection
from bus.errors import NoServer, Unreachable
from bus.settings import BusSettings


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b'INFO {"max_payload":1024}\r\n')
    await reader.readline()
    writer.write(b"-ERR 'Authorization Violation'\r\n")
    writer.close()


async def test_a_server_that_refuses_us_is_told_in_its_own_words(bus_settings: BusSettings) -> None:
    async with await asyncio.start_server(refuse, "127.0.0.1") as server:
        at = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        settings = msgspec.structs.replace(bus_settings, nats=at)
        with pytest.raises(Unreachable, match=r"takes no connection of ours: .*Authorization Violation") as caught:
            await Connection.connect(settings, "test", patience_s=0.5)
    assert not isinstance(caught.value, NoServer)
