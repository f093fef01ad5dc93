"""One hostile WebSocket takes bounded memory and time of a gateway that others use."""

import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from bus.settings import BusSettings
from gateway.sockets.socket import Socket
from gateway.sockets.splitter import Splitter
from tests.support.doors import gateway_here
from tests.support.fleets import small_bus
from tests.support.programs import fleet_of
from tests.support.sockets import VLLM
from tests.support.waiting import eventually

#: Audio that no test reads to its end.
LONG = {"seconds": 600, "compute_ms": 100, "device": "own"}


@pytest.fixture(scope="module")
def settings(nats_url: str) -> Iterator[BusSettings]:
    """A bus with a worker."""
    with fleet_of(small_bus(nats_url)) as fleet:
        fleet.worker()
        yield fleet.settings


@pytest.fixture
async def ws(settings: BusSettings) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A socket that plays a long sentence."""
    async with gateway_here(settings) as (gateway, http):
        await eventually(lambda: gateway.fleet.card("tone"))
        async with http.ws_connect(VLLM, max_msg_size=0) as ws:
            await ws.send_json(config())
            await send_text(ws)
            assert (await ws.receive_json(timeout=20))["type"] == "audio.start"
            yield ws


def config(**fields: object) -> dict[str, object]:
    return {"type": "session.config", "model": "tone", "stream_audio": True, "params": LONG, **fields}


async def send_text(ws: aiohttp.ClientWebSocketResponse) -> None:
    await ws.send_json({"type": "input.text", "text": "a"})
    await ws.send_json({"type": "input.done"})


async def refusal(ws: aiohttp.ClientWebSocketResponse) -> str:
    """The text of the next error."""
    async with asyncio.timeout(20):
        while True:
            message = await ws.receive()
            assert message.type in {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY}, message
            if message.type is aiohttp.WSMsgType.TEXT and message.json()["type"] == "error":
                return str(message.json()["message"])


async def test_queued_configs_count_against_the_limit_of_queued_text(ws: aiohttp.ClientWebSocketResponse) -> None:
    await ws.send_json(config(instructions="x" * (1 << 20)))
    assert "limit is 65536" in await refusal(ws)
    await ws.send_json(config(ref_audio="x" * (3 << 20)))  # a field of theirs that is not used here, and not kept
    for _ in range(10):
        await ws.send_json(config(instructions="x" * 60_000))
        await send_text(ws)
    assert "characters would be queued" in await refusal(ws)


async def test_a_flood_of_small_messages_does_not_block_other_tasks(
    ws: aiohttp.ClientWebSocketResponse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two turns of any other task this socket is read at most twice, however much has arrived."""
    num_read, most = 0, 0
    read = Socket.receive_text

    async def counted(*args: object) -> str | None:
        nonlocal num_read
        text = await read(*args)  # type: ignore[arg-type]  # the arguments of the call
        num_read += 1
        return text

    async def others() -> None:
        nonlocal num_read, most
        while True:
            most, num_read = max(most, num_read), 0
            await asyncio.sleep(0)

    monkeypatch.setattr(Socket, "receive_text", counted)
    turns = asyncio.create_task(others())
    for _ in range(2000):
        await ws.send_str('{"type":"input.text","text":""}')
    await ws.send_str('{"type":"nothing"}')
    assert "is not one of" in await refusal(ws)
    turns.cancel()
    assert most <= 2


def test_empty_texts_are_not_kept_and_many_small_ones_cost_the_same_each() -> None:
    splitter = Splitter("none")
    tracemalloc.start()
    for _ in range(100_000):
        splitter.feed("")
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept_bytes < 100_000

    def cost_s(count: int) -> float:
        begun = time.thread_time()
        for _ in range(count):
            splitter.feed("a")
            assert splitter.num_held_chars
        return time.thread_time() - begun

    first_s = cost_s(2000)
    cost_s(30_000)
    # The least of several: the garbage collector may run in one of them.
    assert min(cost_s(2000) for _ in range(5)) < 10 * first_s
    assert splitter.num_held_chars == 42_000
    assert splitter.finish() == ["a" * 42_000]


async def test_session_close_counts_once_however_often_it_is_sent(ws: aiohttp.ClientWebSocketResponse) -> None:
    for _ in range(5000):
        await ws.send_str('{"type":"session.close"}')
    await ws.send_json({"type": "input.text", "text": "there is room for this"})
    await ws.send_json({"type": "nothing"})
    assert "is not one of" in await refusal(ws)
