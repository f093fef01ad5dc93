"""Submitting a job: it is accepted once, however often it is submitted, or refused."""

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from bus import wire
from bus.errors import Conflict, Full, StorageFull
from bus.jobs.client import Bus, open_bus
from bus.jobs.status import status
from bus.jobs.submit import keyed_id, submit
from bus.settings import BusSettings
from tests.support.bus import done, key_of, num_jobs, start, take_delivery
from tests.support.jobs import tone_job


async def test_rule_03_accepted_means_that_jobs_has_the_message_that_the_birth_names(bus: Bus) -> None:
    job = tone_job()
    accepted = await submit(bus, job)
    assert accepted.is_new
    stored = await bus.js.at(bus.subjects.jobs_stream, accepted.birth.queue_seq)
    assert stored is not None
    assert wire.decode(wire.Job, stored.message.data) == accepted.job
    assert stored.message.header("Nats-Msg-Id") is None
    assert (await bus.logs.birth(key_of(bus, job))) == (accepted.seq, accepted.birth)


async def test_rule_05_the_same_request_again_attaches_and_leaves_one_message(bus: Bus) -> None:
    job = tone_job()
    first = await submit(bus, job)
    other_api = msgspec.structs.replace(job, client=wire.Client(api="http", traceparent="00-2"))
    again = await submit(bus, other_api)
    assert (again.is_new, again.birth, again.seq) == (False, first.birth, first.seq)
    assert await num_jobs(bus) == 1


async def test_rule_04_an_ended_log_is_final_and_attached_to(bus: Bus) -> None:
    job = tone_job()
    _, claim, by = await start(bus, job)
    await by.end(wire.End.DONE, done(by))
    again = await submit(bus, job)
    assert again.is_new is False
    assert (await status(bus.logs, claim.key)).state == "done"


async def test_rule_03_another_body_is_a_conflict_and_leaves_one_message(bus: Bus) -> None:
    job = tone_job()
    await submit(bus, job)
    with pytest.raises(Conflict, match=job.id):
        await submit(bus, msgspec.structs.replace(job, input="other"))
    assert await num_jobs(bus) == 1


async def test_rule_05_twenty_requests_at_once_make_one_job(bus: Bus) -> None:
    async with open_bus(bus.settings, "test") as second:
        # By two clocks two of them may come in the same microsecond: their deadlines would be one, and both be new.
        other = dataclasses.replace(second, clock=bus.clock)
        for _ in range(5):
            job = tone_job()
            before = await num_jobs(bus)
            results = await asyncio.gather(*(submit(where, job) for where in (bus, other) for _ in range(10)))
            assert sum(accepted.is_new for accepted in results) == 1
            assert len({accepted.birth.queue_seq for accepted in results}) == 1
            assert await num_jobs(bus) == before + 1


async def test_rule_15_a_full_queue_refuses_new_jobs_and_drops_none(bus_settings: BusSettings) -> None:
    async with open_bus(msgspec.structs.replace(bus_settings, jobs_max_bytes=8192), "test") as bus:
        submits = [submit(bus, tone_job(input="x" * 500)) for _ in range(30)]
        answers = await asyncio.gather(*submits, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, StorageFull)]
        assert 0 < len(refused) < 30
        assert await num_jobs(bus) == 30 - len(refused)
        with pytest.raises(StorageFull):
            await submit(bus, tone_job(input="x" * 5000))


async def test_a_job_whose_log_found_no_room_is_not_left_in_the_queue(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = bus.js.publish

    async def publish(subject: str, *args: Any, **kwargs: Any) -> Any:
        if subject.endswith(".job"):
            raise Full(10077, "maximum bytes exceeded")
        return await original(subject, *args, **kwargs)

    monkeypatch.setattr(bus.js, "publish", publish)
    with pytest.raises(StorageFull):
        await submit(bus, tone_job())
    assert await num_jobs(bus) == 0


async def test_a_job_that_was_stored_twice_for_want_of_an_answer_is_new_whichever_a_worker_took_first(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, original = tone_job(), bus.js.publish
    queue = bus.subjects.job(job.model, job.version, job.lane, job.tenant)

    async def publish(subject: str, *args: Any, **kwargs: Any) -> Any:
        if subject == queue:  # the first answer is lost
            await original(subject, *args, **kwargs)
            assert (await take_delivery(bus))[1] is not None
        return await original(subject, *args, **kwargs)

    await bus.topology.declare_consumers(job.model, job.version)
    monkeypatch.setattr(bus.js, "publish", publish)
    accepted = await submit(bus, job)
    assert accepted.is_new
    assert await num_jobs(bus) == 1
    monkeypatch.undo()
    assert (await submit(bus, job)).is_new is False


async def test_the_same_request_again_is_not_new_though_it_has_a_deadline_of_its_own(bus: Bus) -> None:
    job = tone_job(expires_at=datetime.now(UTC) + timedelta(hours=1))
    assert (await submit(bus, job)).is_new
    assert (await submit(bus, job)).is_new is False


def test_rule_05_equal_keys_meet_at_one_door_and_are_apart_at_two() -> None:
    assert keyed_id("http", "k") == keyed_id("http", "k")
    assert len({keyed_id("http", "k"), keyed_id("nats", "k"), keyed_id("http", "l"), keyed_id("htt", "pk")}) == 4
