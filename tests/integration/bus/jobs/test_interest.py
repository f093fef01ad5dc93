"""Interest is a subscription: the leaving of the last listener ends the job, and of no other one."""

import asyncio
import time
from typing import Any

import pytest

from bus.errors import Unreachable
from bus.jobs.client import Bus, open_bus
from bus.jobs.interest import has_listeners
from bus.transport.clock import parse_time
from tests.support.bus import footprint, until
from tests.support.listeners import accept, gateway, listener, num_unsettled, state


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
            # Settled: `here` sent a request, `there` answered.
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


async def _not(request: Any) -> bool:
    try:
        return not await request
    except Unreachable:  # the question met the closing of the connection
        return False


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
