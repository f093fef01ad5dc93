"""The socket to an engine host that has just died."""

import asyncio
import socket

import uvloop

from gpuworker.worker.host_process import HostChannel


async def send_after_the_host_closed_its_end() -> None:
    ours, theirs = socket.socketpair()
    channel = await HostChannel.connect(ours, lambda data: None)
    assert channel.is_open
    theirs.close()
    await asyncio.wait_for(channel.closed.wait(), 20)
    assert not channel.is_open
    channel.send(b"credit")
    channel.close()


def test_sending_to_a_host_that_has_just_died_does_not_raise() -> None:
    """On uvloop, as a worker runs: there a write to a closed transport raises, and asyncio's own only warns."""
    uvloop.run(send_after_the_host_closed_its_end())


async def test_bytes_arrive_in_order_until_the_channel_is_closed() -> None:
    ours, theirs = socket.socketpair()
    received = bytearray()
    channel = await HostChannel.connect(ours, received.extend)
    with theirs:
        theirs.sendall(b"ab")
        theirs.sendall(b"cd")
        while len(received) < 4:
            await asyncio.sleep(0)
        channel.send(b"command")
        channel.close()
        theirs.settimeout(20)
        assert await asyncio.to_thread(theirs.recv, 100) == b"command"
    assert received == b"abcd"
