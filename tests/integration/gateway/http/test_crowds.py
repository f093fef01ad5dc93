"""Crowds of silent connections and stalled bodies: the gateway keeps its descriptors and memory, and serves the others."""

import asyncio
import contextlib
import json
import re
import resource
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.access.keys import Keys, Limits
from bus.jobs.client import open_bus
from bus.settings import BusSettings
from tests.support.doors import gated
from tests.support.fleets import small_bus
from tests.support.programs import Fleet, Program, fleet_of

DESCRIPTORS = 2000
#: What the gateway makes of them.
CAPACITY = 1648
NUM_SILENT = 3000
NUM_STALLED = 500
CROWD = tuple(f"127.0.0.{number}" for number in range(1, 9))
VICTIM = "127.0.0.9"
STALLED = b"POST /v1/jobs:batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % ((16 << 20) - 100)
SENT_BYTES = 1 << 20
BUFFER_BYTES = 128 << 20


@pytest.fixture
def gateway(nats_url: str) -> Iterator[tuple[Program, int]]:
    """A gateway with few descriptors, and its port; `tone` is served."""
    flags = ("--request-head-s", "5", "--request-body-s", "5", "--buffer-bytes", str(BUFFER_BYTES))
    with fleet_of(small_bus(nats_url)) as fleet:
        fleet.worker()
        yield limited(fleet, DESCRIPTORS, CAPACITY, *flags)


def limited(fleet: Fleet, descriptors: int, capacity: int, *flags: str) -> tuple[Program, int]:
    """A gateway with a limit of descriptors, of which it makes `capacity`; and its port."""
    for _ in range(5):
        program, _ = fleet.gateway(*flags, wait=False)
        # It reads its limit some milliseconds later, when it has connected to the bus.
        resource.prlimit(program.pid, resource.RLIMIT_NOFILE, (descriptors, descriptors))
        port = int(program.wait_for("gateway.ready")["port"])
        if asyncio.run(figure(port, "antiphon_connections_limit")) == capacity:
            return program, port
    raise AssertionError("the gateway reads its limit before it can be set")


async def answer(port: int, request: bytes, *, source: str = VICTIM) -> bytes:
    """The whole response over a connection of its own."""
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
        with contextlib.closing(writer):
            writer.write(request)
            return await reader.read()


async def figure(port: int, name: str) -> float:
    text = await answer(port, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    found = re.search(rf"^{name}(?:{{.*}})? (\S+)$", text.decode(), re.MULTILINE)
    assert found is not None, text
    return float(found[1])


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


def speech(seed: int) -> bytes:
    body = json.dumps(
        {"model": "tone", "input": "x", "response_format": "wav", "seed": seed, "params": {"seconds": 0.2}}
    )
    head = (
        f"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()


async def crowd(port: int, stack: contextlib.ExitStack, count: int, sent: bytes = b"") -> None:
    """Open `count` connections from the addresses of the crowd, send `sent` over each as far as that goes, and go on."""
    loop = asyncio.get_running_loop()

    async def one(number: int) -> None:
        peer = stack.enter_context(contextlib.closing(socket.socket()))
        peer.setblocking(False)
        peer.bind((CROWD[number % len(CROWD)], 0))
        with contextlib.suppress(ConnectionError, TimeoutError):
            await loop.sock_connect(peer, ("127.0.0.1", port))
            async with asyncio.timeout(20):
                await loop.sock_sendall(peer, sent)

    for first in range(0, count, 50):
        await asyncio.gather(*[one(number) for number in range(first, min(first + 50, count))])


async def probe(port: int, until: asyncio.Event) -> list[bytes]:
    """What /livez answered, again and again."""
    found = []
    while not until.is_set():
        found.append((await answer(port, get("/livez")))[:13])
        await asyncio.sleep(0.02)
    return found


def resident_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) << 10


@pytest.mark.slow
async def test_others_are_served_beside_silent_connections_and_stalled_bodies(gateway: tuple[Program, int]) -> None:
    program, port = gateway
    done = asyncio.Event()
    probing = asyncio.create_task(probe(port, done))
    base = resident_bytes(program.pid)
    with contextlib.ExitStack() as stack:
        await crowd(port, stack, NUM_STALLED, STALLED + bytes(SENT_BYTES))
        held = resident_bytes(program.pid) - base
        await crowd(port, stack, NUM_SILENT)
        answers = [await answer(port, speech(seed)) for seed in range(5)]
        ready = await answer(port, get("/readyz"))
        num_open = await figure(port, "antiphon_connections")
        assert len(list(Path(f"/proc/{program.pid}/fd").iterdir())) < DESCRIPTORS
        # All that has stood still ends after its time, although its clients are there.
        async with asyncio.timeout(60):
            while await figure(port, "antiphon_connections") > 5:
                await asyncio.sleep(0.2)
    done.set()
    found = await probing
    assert [each for each in [*found, ready[:13], *[each[:13] for each in answers]] if each != b"HTTP/1.1 200 "] == []
    assert len(found) > 10
    assert 1000 < num_open <= CAPACITY
    # A body is copied as it grows, and refused ones leave theirs a moment later.
    assert held < 2 * BUFFER_BYTES, held
    assert resident_bytes(program.pid) - base < BUFFER_BYTES
    assert program.events("listener.paused") == []
    assert await figure(port, "antiphon_connections_evicted_total") > 500
    assert "Traceback" not in program.whole_log()
    lines = [event for name in ("connection.evicted", "request.timed_out") for event in program.events(name)]
    assert len([event for event in lines if event["level"] == "info"]) < 200


@pytest.fixture
def small(nats_url: str) -> Iterator[tuple[BusSettings, int]]:
    """The bus and the port of a gateway with very few descriptors, that requires keys."""
    with fleet_of(settings := small_bus(nats_url)) as fleet:
        fleet.worker()
        yield settings, limited(fleet, 700, 350, "--no-anonymous")[1]


async def test_a_tenant_with_a_stream_on_every_connection_leaves_some_for_others(
    small: tuple[BusSettings, int], tmp_path: Path
) -> None:
    settings, port = small
    async with open_bus(settings, "operator", declare=False) as bus:
        keys = Keys(bus)
        flood, victim = [(await keys.create(tenant, Limits()))[1] for tenant in ("flood", "victim")]
    bearer = {"flood": f"Authorization: Bearer {flood}\r\n", "victim": f"Authorization: Bearer {victim}\r\n"}

    def request(line: str, tenant: str, body: str = "") -> bytes:
        head = f"{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{bearer[tenant]}"
        return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()

    waiting = {"model": "tone", "input": "x", "params": gated(tmp_path / "gate", 0, seconds=1.0)}
    async with asyncio.timeout(30):  # the gateway may not know its worker yet
        while b"HTTP/1.1 202 " not in (
            created := await answer(port, request("POST /v1/jobs", "flood", json.dumps(waiting)))
        ):
            await asyncio.sleep(0.05)
    job = json.loads(created.partition(b"\r\n\r\n")[2])["id"]
    statuses: Counter[int] = Counter()
    async with contextlib.AsyncExitStack() as stack:
        for number in range(500):
            source = (CROWD[number % len(CROWD)], 0)
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=source)
                stack.enter_context(contextlib.closing(writer))
                writer.write(request(f"GET /v1/jobs/{job}/events", "flood"))
                async with asyncio.timeout(30):
                    statuses[int((await reader.readline() or b"- 0 -").split()[1])] += 1
            except ConnectionError:
                statuses[0] += 1
        # Eight ninths of all are the most that one tenant can have, whatever it comes from.
        assert 200 < statuses[200] <= 350 * 8 / 9, statuses
        assert statuses[429] > 50, statuses
        for _ in range(30):
            assert (await answer(port, request("GET /v1/jobs", "victim"))).startswith(b"HTTP/1.1 200 ")
