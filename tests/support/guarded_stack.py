"""A gateway and a worker on a nats-server with users, as fixtures of a module."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from nats.aio.client import Client

from tests.support.nats_users import Guarded, guarded_fleets, visitor
from tests.support.programs import Program


@dataclass
class Stack:
    server: Guarded
    gateway: Program
    worker: Program
    http: str


def stack() -> Callable[..., Any]:
    """The fixture `stack` of a module: no process of it may meet a permission that it lacks."""

    @pytest.fixture(scope="module")
    def stack() -> Iterator[Stack]:
        with guarded_fleets() as (server, gateways, workers):
            # The worker first: it must be able to make the streams too.
            worker = workers.worker("w1", "tone", 2)
            gateway, url = gateways.gateway("--webhook-max-tries", "2", "--webhook-retry-s", "0.05")
            gateway.wait_for("submit.ready")
            yield Stack(server, gateway, worker, url)
            for program in (gateway, worker):
                assert "ermissions" not in program.whole_log()

    return stack


def client() -> Callable[..., Any]:
    """The fixture `client` of a module: a client of the test's `user`, which is refused nothing."""

    @pytest.fixture
    async def client(stack: Stack, user: str) -> AsyncIterator[Client]:
        visit = await visitor(stack.server, user)
        yield visit.client
        await visit.client.close()
        assert visit.refused == []

    return client
