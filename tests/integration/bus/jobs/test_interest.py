"""Interest is a subscription: the last listener's leaving ends the job, and nobody else's."""

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
from bus.jobs.interest import Interest, anybody_listens
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


class Ear:
    """A listener that stays until told to leave."""

    def __init__(self, interest: Interest, name: JobKey, *, run_on: bool = False, linger_s: float = 0.0) -> None:
        self.here, self._leave = asyncio.Event(), asyncio.Event()
        self.task = asyncio.ensure_future(self._stay(interest, name, run_on, linger_s))
        self.saw_end = False

    async def _stay(self, interest: Interest, name: JobKey, run_on: bool, linger_s: float) -> None:
        async with interest.listen(name, run_on=run_on, linger_s=linger_s) as listener:
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


async def ear(*args: Any, **kwargs: Any) -> Ear:
    made = Ear(*args, **kwargs)
    await made.here.wait()
    return made


async def state(bus: Bus, name: JobKey) -> str:
    return (await status(bus.logs, name)).state


async def test_rule_16_the_job_ends_when_the_last_listener_of_all_gateways_leaves(bus: Bus) -> None:
    name = await accept(bus)
    async with open_bus(bus.settings, "test") as other:
        async with gateway(bus) as here, gateway(other) as there:
            first, second, third = await ear(here, name), await ear(here, name), await ear(there, name)
            await other.connection.flush()
            await first.leave()
            assert await anybody_listens(bus.connection, name)
            await second.leave()
            assert await anybody_listens(bus.connection, name)
            # Settled: `here` asked, `there` answered.
            assert await state(bus, name) == "queued"
            await third.leave()
        assert await state(bus, name) == "cancelled"
    assert not await anybody_listens(bus.connection, name)


async def test_rule_16_leaving_is_settled_at_once_without_a_linger(bus: Bus) -> None:
    took_s = []
    for _ in range(5):  # a busy machine is busy now and then
        name = await accept(bus)
        started = time.monotonic()
        async with gateway(bus) as here:
            await (await ear(here, name)).leave()
        assert await state(bus, name) == "cancelled"
        took_s.append(time.monotonic() - started)
    assert min(took_s) < 0.5, took_s


async def test_rule_16_who_comes_back_within_the_linger_finds_the_job_alive(bus: Bus) -> None:
    name = await accept(bus)
    async with gateway(bus) as here:
        await (await ear(here, name, linger_s=0.2)).leave()
        again = await ear(here, name, run_on=True)
    assert await state(bus, name) == "queued"
    await again.leave()


async def test_rule_16_a_job_lingers_before_it_ends(bus: Bus) -> None:
    name = await accept(bus)
    async with gateway(bus) as here:
        left_at = time.time()
        await (await ear(here, name, linger_s=0.3)).leave()
    assert await state(bus, name) == "cancelled"
    end = await bus.js.last(bus.subjects.replies_stream, name.entries)
    assert end is not None
    assert parse_time(end.stored_at) - left_at >= 0.3


async def test_rule_17_a_job_that_runs_on_is_left_alone(bus: Bus) -> None:
    name = await accept(bus)
    async with gateway(bus) as here:
        await (await ear(here, name, run_on=True)).leave()
    assert await state(bus, name) == "queued"


async def test_rule_17_who_heard_the_end_leaves_nothing_to_settle(bus: Bus) -> None:
    name = await accept(bus)
    async with gateway(bus) as here:
        one = await ear(here, name)
        one.saw_end = True
        await one.leave()
        assert not here._tasks._tasks  # type: ignore[attr-defined]
    assert await state(bus, name) == "queued"


async def test_rule_16_cancelling_a_listener_is_leaving(bus: Bus) -> None:
    name = await accept(bus)
    async with gateway(bus) as here:
        one = await ear(here, name)
        one.task.cancel()
        await asyncio.gather(one.task, return_exceptions=True)
    assert await state(bus, name) == "cancelled"


async def test_rule_16_a_gateways_death_is_not_leaving(bus: Bus) -> None:
    name = await accept(bus)
    async with open_bus(bus.settings, "test") as other:
        other.connection.subscribe(name.listen, lambda message: other.connection.publish(message.reply, b"1"))
        await other.connection.flush()
        assert await anybody_listens(bus.connection, name)
    # Its connection is gone without a word: whoever asks now is told that nobody listens, and nobody ended the job.
    await until(lambda: _not(anybody_listens(bus.connection, name)), 20)
    assert await state(bus, name) == "queued"


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


async def test_rule_16_after_an_outage_whoever_comes_back_later_is_not_taken_for_gone(
    outage: tuple[Server, Bus], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, bus = outage
    bus.connection.state.peer_grace_s = 1.0
    name, asked_at = await accept(bus), list[float]()
    async with open_bus(bus.settings, "gateway") as other, gateway(bus) as here, gateway(other) as there:
        first, second = await ear(here, name), await ear(there, name)
        let_in = hold_reconnect(other.connection)

        async def asked(*args: Any) -> bool:
            asked_at.append(time.monotonic())
            await eventually(lambda: other.connection.state.generation == 1, 20)
            return await anybody_listens(*args)

        monkeypatch.setattr(interest_module, "anybody_listens", asked)
        await asyncio.to_thread(server.restart)
        await eventually(lambda: bus.connection.state.generation == 1, 20)
        await first.leave()
        # Asked now, nobody would answer.
        assert not await anybody_listens(bus.connection, name)
        let_in.set()
        await eventually(lambda: other.connection.state.generation == 1, 20)
        second.saw_end = True  # it stays until `here` has asked, and its own leaving is no matter here
        await eventually(lambda: not here._tasks._tasks, 30)  # type: ignore[attr-defined]
        assert [at - bus.connection.state.reconnected_at >= 1.0 for at in asked_at] == [True]
        assert await state(bus, name) == "queued"
        await second.leave()


async def test_rule_16_who_leaves_during_an_outage_is_settled_after_it(
    outage: tuple[Server, Bus], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, bus = outage
    bus.connection.state.peer_grace_s = 0.2
    monkeypatch.setattr(bus.connection, "_timeout_s", 0.1)
    name = await accept(bus)
    async with asyncio.timeout(60), gateway(bus) as here:
        one = await ear(here, name)
        await asyncio.to_thread(server.kill)
        await eventually(lambda: not bus.connection.state.is_up, 20)
        await one.leave()
        with pytest.raises(Unreachable):  # by now whoever asked once has given up
            await bus.connection.flush()
        await asyncio.sleep(0)
        await asyncio.to_thread(server.start)
    assert await state(bus, name) == "cancelled"


async def test_rule_16_who_leaves_while_the_server_stands_still_is_settled_once_it_goes_on(
    outage: tuple[Server, Bus], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, bus = outage
    name = await accept(bus)
    async with asyncio.timeout(30), gateway(bus) as here:
        one = await ear(here, name)
        with server.frozen(), monkeypatch.context() as impatient:
            impatient.setattr(bus.connection, "_timeout_s", 0.1)
            await one.leave()
            with pytest.raises(Unreachable):  # by now whoever asked once has given up
                await bus.connection.flush()
            assert bus.connection.state.is_up, "nobody has noticed yet"
    assert await state(bus, name) == "cancelled"


async def test_rule_16_silence_is_no_answer(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    name = await accept(bus)
    bus.connection.subscribe(name.listen, lambda _: None)
    original = bus.connection.request

    async def impatient(subject: str, data: bytes = b"", **kwargs: Any) -> Any:
        timeout_s = 0.1 if subject == name.listen else None
        return await original(subject, data, **{**kwargs, "timeout_s": timeout_s})

    monkeypatch.setattr(bus.connection, "request", impatient)
    with pytest.raises(Unreachable):
        await anybody_listens(bus.connection, name)
    async with gateway(bus) as here:
        await (await ear(here, name)).leave()
    assert await state(bus, name) == "queued"


async def test_rule_16_a_gateway_that_is_stopped_does_not_speak_for_its_listeners(bus: Bus) -> None:
    name = await accept(bus)
    async with gateway(bus) as here:
        one = await ear(here, name)
        here.close()
        await one.leave()
    assert await state(bus, name) == "queued"


async def test_leaving_a_job_that_was_never_accepted_is_no_error(bus: Bus, capsys: pytest.CaptureFixture[str]) -> None:
    async with gateway(bus) as here:
        await (await ear(here, bus.subjects.job_key("public", "never"))).leave()
    assert "left_unsettled" not in capsys.readouterr().out


async def test_two_hundred_listeners_leave_nothing_behind(bus: Bus) -> None:
    name = await accept(bus)
    before = footprint(bus.connection)
    async with gateway(bus) as here:
        for _ in range(50):
            ears = [await ear(here, name, run_on=True) for _ in range(4)]
            for one in ears:
                await one.leave()
    assert footprint(bus.connection) == before


async def test_a_worker_may_hold_what_is_listened_to_unless_another_one_was_heard_since(bus: Bus) -> None:
    silent, spoken = await accept(bus), await accept(bus)
    async with gateway(bus) as here:
        first, second = await ear(here, silent, run_on=True), await ear(here, spoken, run_on=True)
        here.spoke(spoken, "w1")
        assert here.maybe_held_by("w1") == [silent, spoken]
        assert here.maybe_held_by("w2") == [silent]
        here.spoke(spoken, "w2")
        assert here.maybe_held_by("w1") == [silent]
        await first.leave()
        await second.leave()
        here.spoke(spoken, "w1")
        assert here.maybe_held_by("w1") == []
        assert not here._speakers
