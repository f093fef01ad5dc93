"""The connection: one read loop that nothing ends, replies that arrive or fail at once, subscriptions that last."""

import asyncio
import logging
import select
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
import uvloop

from bus.errors import NoResponders, Unreachable
from bus.settings import BusSettings
from bus.transport.connection import Connection
from bus.transport.parser import Message
from tests.support.bus import client_of, footprint, socket_of, write_raw
from tests.support.restarts import Server, own_server
from tests.support.waiting import eventually


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with own_server(tmp_path) as running:
        yield running


@pytest.fixture
async def own(server: Server, bus_settings: BusSettings) -> AsyncIterator[Connection]:
    """A connection to a server that may be killed."""
    settings = msgspec.structs.replace(bus_settings, nats=server.url)
    async with await Connection.connect(settings, "test") as connection:
        yield connection


@pytest.fixture
async def shared(bus_settings: BusSettings) -> AsyncIterator[Connection]:
    async with await Connection.connect(bus_settings, "test") as connection:
        yield connection


def echo(connection: Connection, subject: str) -> None:
    connection.subscribe(subject, lambda message: connection.publish(message.reply, message.data))


async def test_requests_to_a_killed_server_fail_at_once_and_later_ones_are_answered(
    server: Server, own: Connection
) -> None:
    echo(own, "echo")
    own.subscribe("silent", lambda _: None)
    waiting = [asyncio.ensure_future(own.request("silent", timeout_s=60)) for _ in range(20)]
    flushed = asyncio.ensure_future(own.flush())
    await flushed
    killed_at = time.monotonic()
    server.kill()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [Unreachable] * 20
    assert time.monotonic() - killed_at < 30  # of 60 that they would wait for
    late = asyncio.ensure_future(own.request("echo", b"after", timeout_s=20))
    server.start()
    assert (await late).data == b"after"
    assert own.state.generation == 1


async def test_a_subscription_made_between_the_replay_of_the_others_and_the_reconnect_receives_messages(
    server: Server, own: Connection
) -> None:
    client, received = client_of(own), []
    original = client.flush

    async def flush(*args: object) -> None:
        # nats-py has replayed subscriptions by now, and has not called us yet.
        echo(own, "late")
        own.subscribe("gone", received.append).close()
        await original(*args)

    client.flush = flush
    server.restart()
    await eventually(lambda: own.state.generation == 1)
    assert (await own.request("late", b"x")).data == b"x"
    with pytest.raises(NoResponders):
        await own.request("gone")


async def test_a_frozen_server_does_not_hold_a_large_request_longer_than_its_timeout(
    server: Server, own: Connection
) -> None:
    with server.frozen():
        started = time.monotonic()
        for _ in range(4):
            with pytest.raises(Unreachable):
                await own.request("no.subscriber", bytes(8_000_000), timeout_s=0.3)
        # A longer wait ends with nats-py's pings, which give up 6 s after the connection was made.
        assert time.monotonic() - started < 5
        client_of(own).options["ping_interval"] = 0.3
        # Its own closing would wait for the server to thaw.
        await eventually(lambda: not own.state.is_up)
    await own.flush(20)


async def test_closing_a_connection_to_a_frozen_server_ends(server: Server, bus_settings: BusSettings) -> None:
    settings = msgspec.structs.replace(bus_settings, nats=server.url, request_timeout_s=0.3)
    connection = await Connection.connect(settings, "test")
    with server.frozen():
        connection.publish("x", bytes(8_000_000))
        connection.publish("x", bytes(8_000_000))
        await asyncio.wait_for(connection.close(), 20)
    with pytest.raises(Unreachable):
        await asyncio.wait_for(connection.request("x", timeout_s=60), 20)


async def test_a_callback_that_raises_loses_its_message_only(shared: Connection) -> None:
    received: list[bytes] = []

    def on(message: Message) -> None:
        received.append(message.data)
        if message.data == b"bad":
            raise ZeroDivisionError

    shared.subscribe("a", on)
    for data in (b"bad", b"bad", b"good"):
        shared.publish("a", data)
    await shared.flush()
    assert received == [b"bad", b"bad", b"good"]


async def test_subjects_that_are_not_utf_8_do_not_stop_the_connection(
    shared: Connection, bus_settings: BusSettings
) -> None:
    received: list[Message] = []
    shared.subscribe(f"{bus_settings.root}.>", received.append)
    await shared.flush()
    write_raw(shared, b"PUB %b.\xff\xfe 0\r\n\r\n" % bus_settings.root.encode())
    shared.publish(f"{bus_settings.root}.fine")
    await shared.flush()
    assert [message.subject.rpartition(".")[2] for message in received] == ["\\xff\\xfe", "fine"]


@pytest.mark.parametrize("headers", [None, {"A": "b" * 100}])
async def test_a_payload_at_which_the_server_would_close_is_refused(
    shared: Connection, headers: dict[str, str] | None
) -> None:
    before = footprint(shared)
    with pytest.raises(ValueError, match="the limit of the server"):
        await shared.request("a", bytes(client_of(shared).max_payload + (0 if headers else 1)), headers=headers)
    with pytest.raises(ValueError, match="the limit of the server"):
        shared.publish("a", bytes(client_of(shared).max_payload + 1))
    with pytest.raises(NoResponders):
        await shared.request("a", bytes(client_of(shared).max_payload - 200), headers=headers)
    assert footprint(shared) == before


async def test_a_header_with_a_line_end_is_refused_and_the_connection_goes_on(shared: Connection) -> None:
    with pytest.raises(ValueError, match="line end"):
        shared.publish("a", headers={"A": "b\r\nEvil: 1"})
    with pytest.raises(ValueError, match="not a subject"):
        shared.publish("")
    await shared.flush()


async def test_a_cancelled_request_leaves_nothing_behind(shared: Connection) -> None:
    shared.subscribe("silent", lambda _: None)
    before = footprint(shared)
    waiting = [asyncio.ensure_future(shared.request("silent")) for _ in range(50)]
    await shared.flush()
    assert footprint(shared)[2] == before[2] + 50
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert footprint(shared) == before


async def test_a_cancelled_flush_does_not_kill_the_read_loop(
    shared: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        flushing = asyncio.ensure_future(shared.flush())
        await asyncio.sleep(0)
        flushing.cancel()
        await asyncio.gather(flushing, return_exceptions=True)
        await asyncio.wait_for(shared.flush(), 20)
    assert not caplog.records


async def test_messages_of_megabytes_arrive_whole(shared: Connection) -> None:
    received: list[bytes] = []
    shared.subscribe("big", lambda message: received.append(message.data))
    sent = [bytes([k]) * (1 << 20) + b"\r\nMSG big 1 3\r\n" for k in range(4)]
    for data in sent:
        shared.publish("big", data)
        shared.publish("big", b"small", headers={"A": "b"})
    await shared.flush()
    assert received == [data for big in sent for data in (big, b"small")]


async def test_no_subscriber_is_reported_at_once(shared: Connection) -> None:
    with pytest.raises(NoResponders):
        await asyncio.wait_for(shared.request("no.subscriber", timeout_s=60), 20)


async def test_silence_is_reported_after_the_timeout(shared: Connection) -> None:
    shared.subscribe("silent", lambda _: None)
    with pytest.raises(Unreachable, match=r"0\.05"):
        await shared.request("silent", timeout_s=0.05)


async def test_a_closed_subscription_receives_messages_on_the_wire_for_its_grace_only(shared: Connection) -> None:
    received: list[bytes] = []
    subscription = shared.subscribe("a", lambda message: received.append(message.data))
    shared.publish("a", b"1")
    subscription.close(grace_s=5.0)  # the message is still to come
    await shared.flush()
    shared.publish("a", b"2")
    await shared.flush()
    assert received == [b"1"]
    subscription.close()


def test_a_reply_that_came_while_this_process_stood_still_is_used(bus_settings: BusSettings) -> None:
    async def ask() -> bytes:
        async with await Connection.connect(bus_settings, "test") as connection:
            await connection.flush()
            asking = asyncio.create_task(connection.request("$JS.API.INFO", timeout_s=0.3))
            for _ in range(5):  # until it is written
                await asyncio.sleep(0)
            time.sleep(0.6)  # noqa: ASYNC251 - the whole process, as when it is stopped and goes on
            answered, _, _ = select.select([socket_of(connection)], [], [], 20)
            assert answered
            return (await asking).data

    # As our programs run: this loop looks at its timers before it reads.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert b"account_info_response" in runner.run(ask())
