"""Interest is a subscription: the leaving of the last listener ends the job, and of no other one."""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bus.errors import Unreachable
from bus.jobs import interest as interest_module
from bus.jobs.client import Bus, open_bus
from bus.jobs.interest import Interest, has_listeners
from bus.jobs.status import status
from bus.jobs.submit import submit
from bus.settings import BusSettings
from bus.subjects import JobKey
from bus.transport.clock import parse_time
from tests.support.bus import footprint, hold_reconnect, key_of, until
from tests.support.jobs import tone_job
from tests.support.nats import fresh_root
from tests.support.restarts import Server, own_server
from tests.support.waiting import eventually


class Stay:
    """A listener that stays until `leave`."""

    def __init__(self, interest: Interest, key: JobKey, *, run_on: bool = False, linger_s: float = 0.0) -> None:
        self.here = asyncio.Event()
        self._leave = asyncio.Event()
        self.task = asyncio.ensure_future(self._stay(interest, key, run_on, linger_s))
        self.saw_end = False

    async def _stay(self, interest: Interest, key: JobKey, run_on: bool, linger_s: float) -> None:
        async with interest.listen(key, run_on=run_on, linger_s=linger_s) as listener:
            self.here.set()
            await self._leave.wait()
            listener.saw_end = self.saw_end

    async def leave(self) -> None:
        self._leave.set()
        await self.task


@contextlib.asynccontextmanager
async def gateway(bus: Bus) -> AsyncIterator[Interest]:
    """A second process's listeners, or the first's. Leaving waits until every leaving is settled."""
    async with asyncio.TaskGroup() as tasks:
        yield Interest(bus.connection, bus.logs, tasks)


async def accept(bus: Bus, **fields: Any) -> JobKey:
    job = tone_job(**fields)
    await submit(bus, job)
    return key_of(bus, job)


async def listener(*args: Any, **kwargs: Any) -> Stay:
    made = Stay(*args, **kwargs)
    await made.here.wait()
    return made


async def state(bus: Bus, key: JobKey) -> str:
    return (await status(bus.logs, key)).state


def num_unsettled() -> int:
    """Leavings that are still being settled."""
    return sum(task.get_name().startswith("left ") for task in asyncio.all_tasks())


async def test_rule_16_the_job_ends_when_the_last_listener_of_all_gateways_leaves(bus: Bus) -> None:
    key = await accept(bus)
    async with open_bus(bus.settings, "test") as other:
        async with gateway(bus) as here, gateway(other) as there:
            first, second, third = await listener(here, key), await listener(here, key), await listener(there, key)
            await other.connection.flush()
            await first.leave()
            assert await has_listeners(bus.connection, key)
            await second.leave()
            assert await has_listeners(bus.connection, key)
            # Settled: `here` asked, `there` answered.
            assert await state(bus, key) == "queued"
            await third.leave()
        assert await state(bus, key) == "cancelled"
    assert not await has_listeners(bus.connection, key)


async def test_rule_16_leaving_is_settled_at_once_without_a_linger(bus: Bus) -> None:
    took_s = []
    for _ in range(5):  # a busy machine is busy now and then
        key = await accept(bus)
        started = time.monotonic()
        async with gateway(bus) as here:
            await (await listener(here, key)).leave()
        assert await state(bus, key) == "cancelled"
        took_s.append(time.monotonic() - started)
    assert min(took_s) < 0.5, took_s


async def test_rule_16_a_listener_that_comes_back_within_the_linger_finds_the_job_alive(bus: Bus) -> None:
    key = await accept(bus)
    async with gateway(bus) as here:
        await (await listener(here, key, linger_s=0.2)).leave()
        again = await listener(here, key, run_on=True)
    assert await state(bus, key) == "queued"
    await again.leave()


async def test_rule_16_a_job_lingers_before_it_ends(bus: Bus) -> None:
    key = await accept(bus)
    async with gateway(bus) as here:
        left_at = time.time()
        await (await listener(here, key, linger_s=0.3)).leave()
    assert await state(bus, key) == "cancelled"
    end = await bus.js.last(bus.subjects.replies_stream, key.entries)
    assert end is not None
    assert parse_time(end.stored_at) - left_at >= 0.3


async def test_rule_17_a_job_that_runs_on_is_left_alone(bus: Bus) -> None:
    key = await accept(bus)
    async with gateway(bus) as here:
        await (await listener(here, key, run_on=True)).leave()
    assert await state(bus, key) == "queued"


async def test_rule_17_a_listener_that_saw_the_end_leaves_nothing_to_settle(bus: Bus) -> None:
    key = await accept(bus)
    async with gateway(bus) as here:
        one = await listener(here, key)
        one.saw_end = True
        await one.leave()
        assert num_unsettled() == 0
    assert await state(bus, key) == "queued"


async def test_rule_16_cancelling_a_listener_is_leaving(bus: Bus) -> None:
    key = await accept(bus)
    async with gateway(bus) as here:
        one = await listener(here, key)
        one.task.cancel()
        await asyncio.gather(one.task, return_exceptions=True)
    assert await state(bus, key) == "cancelled"


async def test_rule_16_a_gateways_death_is_not_leaving(bus: Bus) -> None:
    key = await accept(bus)
    async with open_bus(bus.settings, "test") as other:
        other.connection.subscribe(key.listen, lambda message: other.connection.publish(message.reply, b"1"))
        await other.connection.flush()
        assert await has_listeners(bus.connection, key)
    # Its connection is gone without a message: there are no listeners any more, and no process ended the job.
    await until(lambda: _not(has_listeners(bus.connection, key)), 20)
    assert await state(bus, key) == "queued"


async def _not(asking: Any) -> bool:
    try:
        return not await asking
    except Unreachable:  # the question met the closing of the connection
        return False


@pytest.fixture
async def outage() -> AsyncIterator[tuple[Server, Bus]]:
    """A server of one's own, and a bus on it."""
    with tempfile.TemporaryDirectory(prefix="antiphon-nats-") as folder, own_server(Path(folder)) as server:
        settings = BusSettings(nats=server.url, root=fresh_root(), jobs_max_bytes=1 << 20, replies_max_bytes=1 << 20)
        async with open_bus(settings, "gateway") as bus:
            yield server, bus


async def test_rule_16_after_an_outage_a_gateway_that_comes_back_later_is_not_taken_for_gone(
    outage: tuple[Server, Bus], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, bus = outage
    bus.connection.state.peer_grace_s = 1.0
    key, asked_at = await accept(bus), list[float]()
    async with open_bus(bus.settings, "gateway") as other, gateway(bus) as here, gateway(other) as there:
        first, second = await listener(here, key), await listener(there, key)
        let_in = hold_reconnect(other.connection)

        async def asked(*args: Any) -> bool:
            asked_at.append(time.monotonic())
            await eventually(lambda: other.connection.state.generation == 1, 20)
            return await has_listeners(*args)

        monkeypatch.setattr(interest_module, "has_listeners", asked)
        await asyncio.to_thread(server.restart)
        await eventually(lambda: bus.connection.state.generation == 1, 20)
        await first.leave()
        # A request sent now would have no responders.
        assert not await has_listeners(bus.connection, key)
        let_in.set()
        await eventually(lambda: other.connection.state.generation == 1, 20)
        second.saw_end = True  # it stays until `here` has asked, and its own leaving is no matter here
        await eventually(lambda: num_unsettled() == 0, 30)
        assert [at - bus.connection.state.reconnected_at >= 1.0 for at in asked_at] == [True]
        assert await state(bus, key) == "queued"
        await second.leave()


async def test_rule_16_a_leaving_during_an_outage_is_settled_after_it(
    outage: tuple[Server, Bus], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, bus = outage
    bus.connection.state.peer_grace_s = 0.2
    flush = bus.connection.flush
    monkeypatch.setattr(bus.connection, "flush", lambda: flush(0.1))
    key = await accept(bus)
    async with asyncio.timeout(60), gateway(bus) as here:
        one = await listener(here, key)
        await asyncio.to_thread(server.kill)
        await eventually(lambda: not bus.connection.state.is_up, 20)
        await one.leave()
        with pytest.raises(Unreachable):  # by now a single request has timed out
            await bus.connection.flush()
        await asyncio.sleep(0)
        await asyncio.to_thread(server.start)
    assert await state(bus, key) == "cancelled"


async def test_rule_16_a_leaving_while_the_server_stands_still_is_settled_once_it_goes_on(
    outage: tuple[Server, Bus], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, bus = outage
    key = await accept(bus)
    async with asyncio.timeout(30), gateway(bus) as here:
        one = await listener(here, key)
        with server.frozen(), monkeypatch.context() as impatient:
            flush = bus.connection.flush
            impatient.setattr(bus.connection, "flush", lambda: flush(0.1))
            await one.leave()
            with pytest.raises(Unreachable):  # by now a single request has timed out
                await bus.connection.flush()
            assert bus.connection.state.is_up, "the outage is not noticed yet"
    assert await state(bus, key) == "cancelled"


async def test_rule_16_silence_is_no_answer(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    key = await accept(bus)
    bus.connection.subscribe(key.listen, lambda _: None)
    original = bus.connection.request

    async def impatient(subject: str, data: bytes = b"", **kwargs: Any) -> Any:
        timeout_s = 0.1 if subject == key.listen else None
        return await original(subject, data, **{**kwargs, "timeout_s": timeout_s})

    monkeypatch.setattr(bus.connection, "request", impatient)
    with pytest.raises(Unreachable):
        await has_listeners(bus.connection, key)
    async with gateway(bus) as here:
        await (await listener(here, key)).leave()
    assert await state(bus, key) == "queued"


async def test_rule_16_a_gateway_that_is_stopped_does_not_speak_for_its_listeners(bus: Bus) -> None:
    key = await accept(bus)
    async with gateway(bus) as here:
        one = await listener(here, key)
        here.close()
        await one.leave()
    assert await state(bus, key) == "queued"


async def test_leaving_a_job_that_was_never_accepted_is_no_error(bus: Bus, capsys: pytest.CaptureFixture[str]) -> None:
    async with gateway(bus) as here:
        await (await listener(here, bus.subjects.job_key("public", "never"))).leave()
    assert "abandon_failed" not in capsys.readouterr().out


async def test_two_hundred_listeners_leave_nothing_behind(bus: Bus) -> None:
    key = await accept(bus)
    before = footprint(bus.connection)
    async with gateway(bus) as here:
        for _ in range(50):
            listeners = [await listener(here, key, run_on=True) for _ in range(4)]
            for one in listeners:
                await one.leave()
    assert footprint(bus.connection) == before


async def test_a_worker_may_hold_a_listened_job_unless_another_worker_began_it_since(bus: Bus) -> None:
    silent, begun = await accept(bus), await accept(bus)
    async with gateway(bus) as here:
        first, second = await listener(here, silent, run_on=True), await listener(here, begun, run_on=True)
        here.first_entry_from(begun, "w1")
        assert here.maybe_held_by("w1") == [silent, begun]
        assert here.maybe_held_by("w2") == [silent]
        here.first_entry_from(begun, "w2")
        assert here.maybe_held_by("w1") == [silent]
        await first.leave()
        await second.leave()
        here.first_entry_from(begun, "w1")
        assert here.maybe_held_by("w1") == []
        again = await listener(here, begun, run_on=True)
        assert here.maybe_held_by("w2") == [begun], "the attempts of before are forgotten"
        await again.leave()
