"""Both ways to NATS behave alike: our parser on nats-py's socket, and nats-py's public functions only."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from bus.errors import NoResponders, NoServer, Unreachable
from bus.jobs.client import open_bus
from bus.settings import BusSettings
from bus.transport.connection import Connection
from bus.transport.parser import Message
from tests.support.bus import client_of, done, entries, follow, kinds, start, write
from tests.support.jobs import tone_job
from tests.support.restarts import own_server
from tests.support.waiting import eventually


@pytest.fixture(params=[True, False], ids=["own parser", "public functions"])
def either(request: pytest.FixtureRequest, bus_settings: BusSettings) -> BusSettings:
    return msgspec.structs.replace(bus_settings, own_parser=request.param)


@pytest.fixture
async def connection(either: BusSettings) -> AsyncIterator[Connection]:
    async with await Connection.connect(either, "test") as connection:
        yield connection


async def test_messages_arrive_in_order_with_headers_reply_and_data(connection: Connection) -> None:
    received: list[Message] = []
    connection.subscribe("a.*", received.append)
    connection.publish("a.x", b"1")
    connection.publish("a.y", b"\x00\xff", reply="r", headers={"A": "b", "Long-Name": "c d"})
    connection.publish("a.z", bytes(100_000))
    await connection.flush()
    assert [(message.subject, message.reply, message.data) for message in received] == [
        ("a.x", "", b"1"),
        ("a.y", "r", b"\x00\xff"),
        ("a.z", "", bytes(100_000)),
    ]
    assert (received[1].header("A"), received[1].header("Long-Name"), received[1].status) == ("b", "c d", None)


async def test_a_request_gets_its_reply_and_no_subscriber_is_reported_at_once(connection: Connection) -> None:
    connection.subscribe("echo", lambda message: connection.publish(message.reply, message.data))
    replies = await asyncio.gather(*(connection.request("echo", b"%d" % k) for k in range(50)))
    assert [reply.data for reply in replies] == [b"%d" % k for k in range(50)]
    with pytest.raises(NoResponders):
        await asyncio.wait_for(connection.request("no.subscriber", timeout_s=60), 20)
    connection.subscribe("silent", lambda _: None)
    with pytest.raises(Unreachable, match=r"no reply from silent within 0\.05 s"):
        await connection.request("silent", timeout_s=0.05)


async def test_a_closed_subscription_receives_nothing_more(connection: Connection) -> None:
    received: list[Message] = []
    subscription = connection.subscribe("a", received.append)
    connection.publish("a")
    await connection.flush()
    subscription.close()
    subscription.close()
    connection.publish("a")
    await connection.flush()
    assert len(received) == 1


async def test_a_closed_subscription_receives_messages_on_the_wire_for_its_grace(connection: Connection) -> None:
    received: list[bytes] = []
    subscription = connection.subscribe("a", lambda message: received.append(message.data))
    connection.publish("a", b"1")
    subscription.close(grace_s=5.0)
    await connection.flush()
    connection.publish("a", b"2")
    await connection.flush()
    assert received == [b"1"]


async def test_members_of_a_queue_group_share_its_messages(connection: Connection) -> None:
    received: list[Message] = []
    for _ in range(2):
        connection.subscribe("a", received.append, queue="group")
    for _ in range(10):
        connection.publish("a")
    await connection.flush()
    assert len(received) == 10


async def test_a_callback_that_raises_loses_its_own_message_only(connection: Connection) -> None:
    received: list[bytes] = []

    def on(message: Message) -> None:
        received.append(message.data)
        if message.data == b"bad":
            raise ZeroDivisionError

    connection.subscribe("a", on)
    for data in (b"bad", b"good"):
        connection.publish("a", data)
    await connection.flush()
    assert received == [b"bad", b"good"]


async def test_what_would_close_the_connection_is_refused(connection: Connection) -> None:
    with pytest.raises(ValueError, match="line end"):
        connection.publish("a", headers={"A": "b\r\nEvil: 1"})
    with pytest.raises(ValueError, match="not a subject"):
        connection.publish("")
    with pytest.raises(ValueError, match="bytes"):
        connection.publish("a", bytes(client_of(connection).max_payload + 1))
    await connection.flush()


async def test_subscriptions_and_requests_survive_a_restart_of_the_server(tmp_path: Path, either: BusSettings) -> None:
    with own_server(tmp_path) as server:
        settings = msgspec.structs.replace(either, nats=server.url)
        async with await Connection.connect(settings, "test") as connection:
            connection.subscribe("silent", lambda _: None)
            came_back: list[int] = []
            connection.state.on_reconnect.add(lambda: came_back.append(connection.state.generation))
            connection.subscribe("echo", lambda message: connection.publish(message.reply, message.data))
            waiting = asyncio.ensure_future(connection.request("silent", timeout_s=60))
            await connection.flush()
            server.kill()
            with pytest.raises(Unreachable, match="connection lost"):
                await asyncio.wait_for(waiting, 30)
            assert not connection.state.is_up
            connection.publish("echo", b"dropped", reply="nowhere")
            connection.subscribe("late", lambda message: connection.publish(message.reply, b"late"))
            server.start()
            await eventually(lambda: connection.state.is_up, within_s=20)
            assert (await connection.request("echo", b"again", timeout_s=20)).data == b"again"
            assert (await connection.request("late", timeout_s=20)).data == b"late"
            assert came_back == [1]


async def test_a_whole_job_runs(either: BusSettings) -> None:
    async with open_bus(either, "test") as bus:
        job = tone_job()
        _, claim, by = await start(bus, job)
        listening = asyncio.ensure_future(follow(bus, claim.key))
        await write(by, 5)
        await by.end("done", done(by))
        stored = await entries(bus, claim.key)
        assert [entry.seq for entry in await listening] == [entry.seq for entry in stored]
        assert kinds(stored)[-1] == "done"


async def test_no_server_and_closing_are_reported(either: BusSettings) -> None:
    settings = msgspec.structs.replace(either, nats="nats://me:secret@127.0.0.1:1")
    with pytest.raises(NoServer, match=r"me:\*\*\*@") as caught:
        await Connection.connect(settings, "test", patience_s=0.3)
    assert "secret" not in str(caught.value)
    connection = await Connection.connect(either, "test")
    connection.subscribe("silent", lambda _: None)
    waiting = asyncio.ensure_future(connection.request("silent", timeout_s=60))
    await connection.flush()
    await connection.close()
    with pytest.raises(Unreachable, match="closed"):
        await waiting
    assert connection.state.closed.is_set()
    with pytest.raises(Unreachable, match="closed"):
        await connection.request("silent")
