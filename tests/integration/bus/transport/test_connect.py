"""Connecting: a server that refuses us, does not exist, or hangs up, and one that is silent."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from nats.aio.transport import TcpTransport

from bus.errors import NoServer, Unreachable
from bus.settings import BusSettings
from bus.transport.connection import Connection
from ops.local.system import free_port
from tests.support.programs import fleet_of
from tests.support.restarts import own_server
from tests.support.waiting import eventually


class Silent:
    """A listener that accepts every connection and sends nothing, as a frozen server does."""

    def __init__(self) -> None:
        self.num_accepted = 0
        self.num_open = 0

    async def hold(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_accepted += 1
        self.num_open += 1
        try:
            await reader.read()
        except ConnectionResetError:
            pass
        finally:
            self.num_open -= 1
            writer.close()


@pytest.fixture
async def silent() -> AsyncIterator[tuple[Silent, str]]:
    listener = Silent()
    async with await asyncio.start_server(listener.hold, "127.0.0.1") as server:
        yield listener, f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"


class Refusing:
    """A server that wants a password."""

    def __init__(self) -> None:
        self.num_refused = 0
        self.num_open = 0

    async def refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_open += 1
        try:
            writer.write(b'INFO {"max_payload":1024}\r\n')
            await reader.readline()
            writer.write(b"-ERR 'Authorization Violation'\r\n")
            self.num_refused += 1
        except ConnectionError:
            pass
        finally:
            self.num_open -= 1
            writer.close()


async def test_a_password_that_is_refused_ends_the_first_connection_at_once(bus_settings: BusSettings) -> None:
    refusing = Refusing()
    async with await asyncio.start_server(refusing.refuse, "127.0.0.1") as server:
        at = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        settings = msgspec.structs.replace(bus_settings, nats=at)
        async with asyncio.timeout(60):
            with pytest.raises(Unreachable) as caught:
                await Connection.connect(settings, "test", patience_s=3600)
        await eventually(lambda: not refusing.num_open)
    assert refusing.num_refused == 1
    assert not isinstance(caught.value, NoServer)
    assert "refused the connection: " in str(caught.value)
    assert "Authorization Violation" in str(caught.value)


async def test_a_gateway_logs_at_once_why_it_cannot_connect(bus_settings: BusSettings) -> None:
    settings = msgspec.structs.replace(bus_settings, nats=f"nats://127.0.0.1:{free_port('127.0.0.1')}")
    with fleet_of(settings) as fleet:
        gateway, _ = fleet.gateway(wait=False)
        failed = await asyncio.to_thread(gateway.wait_for, "nats.connect_failed")
    assert failed["url"] == settings.nats
    assert "Connect call failed" in failed["error"] or "refused" in failed["error"]


def dying(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """The next `times` writes find a socket that has just died, which uvloop reports and asyncio does not."""
    met, original = [], TcpTransport.write

    def write(transport: TcpTransport, payload: bytes) -> None:
        if len(met) < times:
            met.append(len(payload))
            raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")
        original(transport, payload)

    monkeypatch.setattr(TcpTransport, "write", write)
    return met


async def test_a_server_that_dies_during_the_handshake_is_tried_again(
    bus_settings: BusSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    met = dying(monkeypatch, times=2)
    async with await Connection.connect(bus_settings, "test", patience_s=20) as connection:
        assert len(met) == 2
        await connection.flush()


async def test_a_server_that_dies_during_the_handshake_of_a_reconnect_is_tried_again(
    bus_settings: BusSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with own_server(tmp_path) as server:
        settings = msgspec.structs.replace(bus_settings, nats=server.url)
        async with await Connection.connect(settings, "test") as connection:
            server.kill()
            await eventually(lambda: not connection.state.is_up)
            met = dying(monkeypatch, times=2)
            server.start()
            await eventually(lambda: connection.state.generation == 1)
            assert len(met) == 2
            await connection.flush()


async def test_without_a_server_connecting_fails_after_its_patience(bus_settings: BusSettings) -> None:
    settings = msgspec.structs.replace(bus_settings, nats="nats://me:secret@127.0.0.1:1")
    with pytest.raises(NoServer, match=r"me:\*\*\*@") as caught:
        await Connection.connect(settings, "test", patience_s=0.3)
    assert "secret" not in str(caught.value)


async def test_a_silent_server_keeps_no_socket_of_ours_when_the_patience_ends(
    silent: tuple[Silent, str], bus_settings: BusSettings
) -> None:
    listener, url = silent
    async with asyncio.timeout(20):
        while not listener.num_accepted:  # again, if this process stood still for all of its patience
            with pytest.raises(Unreachable):
                await Connection.connect(msgspec.structs.replace(bus_settings, nats=url), "test", patience_s=0.3)
            await asyncio.sleep(0)
    await eventually(lambda: not listener.num_open)


async def test_a_reconnect_drops_the_socket_of_every_failed_attempt(
    silent: tuple[Silent, str], tmp_path: Path, bus_settings: BusSettings
) -> None:
    listener, url = silent
    with own_server(tmp_path) as server:
        settings = msgspec.structs.replace(bus_settings, nats=f"{server.url},{url}")
        async with await Connection.connect(settings, "test") as connection:
            server.kill()
            before = listener.num_accepted
            await eventually(lambda: listener.num_accepted > before, within_s=20)
            server.start()
            await eventually(lambda: connection.state.generation == 1, within_s=20)
            await connection.flush()
            await eventually(lambda: not listener.num_open)


async def test_any_server_of_a_list_is_used(bus_settings: BusSettings) -> None:
    settings = msgspec.structs.replace(bus_settings, nats=f"nats://127.0.0.1:1,{bus_settings.nats}")
    async with await Connection.connect(settings, "test", patience_s=20) as connection:
        await connection.flush()
