"""Large pieces of bodies: a few connections read on in each turn of the loop, in order."""

import asyncio
from unittest.mock import Mock

import pytest
from aiohttp import web

from gateway.http.large_reads import LargeReads

NUM_CONNECTIONS = 100


class Connections:
    """Connections that read; `order` is which were resumed, in order."""

    def __init__(self, count: int) -> None:
        self.reads = LargeReads()
        self.order: list[int] = []
        self.all = [self._connection(number) for number in range(count)]

    def _connection(self, number: int) -> Mock:
        connection = Mock(web.RequestHandler, _reading_paused=False, _buffer_paused=False)
        connection.transport = Mock(asyncio.Transport)
        connection.transport.is_reading.return_value = True
        connection.transport.resume_reading.side_effect = lambda: self.order.append(number)
        return connection


async def test_few_connections_read_on_in_one_turn_and_all_in_order() -> None:
    crowd, turns = Connections(NUM_CONNECTIONS), list[int]()
    for connection in crowd.all:
        crowd.reads.pause(connection)
        connection.transport.pause_reading.assert_called_once_with()
    while len(crowd.order) < NUM_CONNECTIONS:
        before = len(crowd.order)
        await asyncio.sleep(0)
        turns.append(len(crowd.order) - before)
    assert crowd.order == list(range(NUM_CONNECTIONS))
    assert max(turns) < NUM_CONNECTIONS / 10, "one turn must not read from all of them"


async def test_a_connection_that_reads_on_at_once_comes_behind_those_that_wait() -> None:
    crowd = Connections(20)
    greedy = crowd.all[0].transport.resume_reading

    def pause_again() -> None:
        crowd.order.append(0)
        if crowd.order.count(0) == 1:
            crowd.reads.pause(crowd.all[0])

    greedy.side_effect = pause_again
    for connection in crowd.all:
        crowd.reads.pause(connection)
    async with asyncio.timeout(30):
        while crowd.order.count(0) < 2:
            await asyncio.sleep(0)
    assert crowd.order == [*range(20), 0]


@pytest.mark.parametrize("flag", ["_reading_paused", "_buffer_paused"])
async def test_a_connection_that_aiohttp_holds_back_meanwhile_stays_paused(flag: str) -> None:
    crowd = Connections(2)
    for connection in crowd.all:
        crowd.reads.pause(connection)
    setattr(crowd.all[0], flag, True)
    async with asyncio.timeout(30):
        while not crowd.order:
            await asyncio.sleep(0)
    assert crowd.order == [1]


async def test_one_that_has_left_or_does_not_read_is_passed_over() -> None:
    crowd = Connections(3)
    crowd.all[0].transport.is_reading.return_value = False
    for connection in crowd.all:
        crowd.reads.pause(connection)
    crowd.all[0].transport.pause_reading.assert_not_called()
    crowd.all[1].transport = None
    async with asyncio.timeout(30):
        while not crowd.order:
            await asyncio.sleep(0)
    assert crowd.order == [2]
