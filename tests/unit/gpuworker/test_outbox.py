"""Messages to the worker: in order, many in one write, and none after the worker has gone."""

import math
import socket
import time
from collections.abc import Iterator

import pytest

from gpuworker.pipe import Outbox


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_messages_wait_until_an_urgent_one_comes_and_leave_in_order(pair: tuple[socket.socket, socket.socket]) -> None:
    outbox = Outbox(pair[0])
    outbox.send(b"one ", urgent=False)
    outbox.send(b"two ", urgent=False)
    with pytest.raises(BlockingIOError):
        pair[1].recv(100)
    assert outbox.num_bytes == 8
    outbox.send(b"three", urgent=True)
    assert (pair[1].recv(100), outbox.num_bytes) == (b"one two three", 0)


def test_messages_are_due_after_a_millisecond_or_64_kib(pair: tuple[socket.socket, socket.socket]) -> None:
    outbox = Outbox(pair[0])
    now = time.monotonic()
    outbox.send(b"one", urgent=False)
    assert now < outbox.due_at < now + 0.1
    outbox.send(bytes(65_536), urgent=False)
    assert outbox.due_at < now
    outbox.flush()
    assert outbox.due_at == math.inf


def test_a_worker_that_has_gone_closes_the_outbox(pair: tuple[socket.socket, socket.socket]) -> None:
    outbox = Outbox(pair[0])
    pair[1].close()
    outbox.send(b"one", urgent=True)
    assert outbox.is_closed
    outbox.flush()
