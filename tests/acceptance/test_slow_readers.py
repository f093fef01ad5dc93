"""Clients that hardly read, at a gateway as an operator runs it."""

import asyncio
import contextlib
import json
import socket
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import ClientSession

from tests.support.programs import Fleet, Program
from tests.support.waiting import eventually
from tests.support.web import ready, speech

pytestmark = pytest.mark.slow

#: What `docs/operations.md` says of one reader of PCM, and half as much again for what the allocator keeps.
READER_BYTES = 768 << 10
#: For what a gateway learns at its first requests.
FIRST_BYTES = 12 << 20


@contextlib.contextmanager
def slow_reader(url: str, text: str, seconds: float) -> Iterator[socket.socket]:
    """Somebody who has read the first byte of a stream."""
    where = urllib.parse.urlsplit(url)
    body = json.dumps(speech(text=text, seconds=seconds)).encode()
    with contextlib.closing(socket.socket()) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.settimeout(20)
        peer.connect((where.hostname, where.port))
        head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        peer.sendall(head.encode() + body)
        assert peer.recv(1)
        yield peer


def resident_bytes(program: Program) -> int:
    return int(Path(f"/proc/{program.pid}/statm").read_text().split()[1]) * 4096


def kernel_bytes() -> int:
    """Of every TCP connection of this machine."""
    [told] = [each for each in Path("/proc/net/sockstat").read_text().splitlines() if each.startswith("TCP:")]
    return int(told.split()[-1]) * 4096


async def test_forty_slow_readers_cost_what_the_manual_says(fleet: Fleet, http: ClientSession) -> None:
    num_readers = 40
    gateway, url = fleet.gateway()
    worker = fleet.worker("w1", "tone", num_readers)
    await ready(http, url)
    async with http.post(f"{url}/v1/audio/speech", json=speech(seconds=60)) as response:
        await response.read()
    resident_before, kernel_before = resident_bytes(gateway), kernel_bytes()
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(slow_reader(url, f"number {each}", 100)) for each in range(num_readers)]
        # 190 MB of sound are made.
        await eventually(lambda: len(worker.events("job.finished")) == num_readers + 1, 60)
        assert all(peer.recv(1) for peer in peers)
        grown, grown_kernel = resident_bytes(gateway) - resident_before, kernel_bytes() - kernel_before
    assert grown < num_readers * READER_BYTES + FIRST_BYTES, f"{grown / num_readers / 1024:.0f} KiB each"
    # Whatever else this machine does meanwhile; unbounded it is ten times as much.
    assert grown_kernel < num_readers * (1 << 20), f"{grown_kernel / num_readers / 1024:.0f} KiB each"


async def test_readers_that_stand_still_are_reset_and_told_of(fleet: Fleet, http: ClientSession) -> None:
    num_readers = 3
    gateway, url = fleet.gateway("--stalled-reader-s", "1")
    fleet.worker("w1", "tone", num_readers)
    await ready(http, url)
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(slow_reader(url, f"number {each}", 60)) for each in range(num_readers)]
        await asyncio.to_thread(gateway.wait_for, "stream.stalled", num_readers)
        for peer in peers:
            with pytest.raises(ConnectionResetError):
                while peer.recv(1 << 16):
                    continue
    told = gateway.events("stream.stalled")
    assert len({each["job"] for each in told}) == num_readers
    # Not the 300 s of a gateway that was told nothing.
    assert all(0.95 <= each["waited_s"] < 30 and each["waiting_bytes"] > 0 for each in told)
