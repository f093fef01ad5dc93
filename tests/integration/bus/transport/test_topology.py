"""Streams and consumers are declared once, adjusted in their limits, and never turned into something else."""

import asyncio
from typing import Any

import msgspec
import pytest

from bus.errors import ApiError, NoResponders, TopologyMismatch
from bus.jobs.client import Bus, open_bus
from bus.settings import BusSettings
from bus.transport.jetstream import JetStream
from bus.transport.stream_configs import consumer, dead_stream, jobs_stream, replies_stream


def record_calls(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The API calls from here on."""
    calls: list[str] = []
    original = bus.js.api

    async def api(subject: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        calls.append(".".join(subject.split(".")[:2]))
        return await original(subject, *args, **kwargs)

    monkeypatch.setattr(bus.js, "api", api)
    return calls


async def test_a_second_declaration_changes_nothing(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    names = await bus.topology.declare_consumers("tone", "v1")
    calls = record_calls(bus, monkeypatch)
    await bus.topology.declare_streams()
    assert await bus.topology.declare_consumers("tone", "v1") == names
    assert set(calls) == {"STREAM.INFO", "CONSUMER.INFO"}


async def test_the_server_keeps_every_field_of_a_declaration(bus: Bus) -> None:
    for make in (jobs_stream, replies_stream, dead_stream):
        wanted = make(bus.subjects, bus.settings)
        found = (await bus.js.info(wanted["name"]))["config"]
        assert {key: found.get(key) for key in wanted} == wanted
    await bus.topology.declare_consumers("tone", "v1")
    config = consumer(bus.subjects, bus.settings, "tone", "v1", "batch")
    answer = await bus.js.api(f"CONSUMER.INFO.{bus.subjects.jobs_stream}.{config['name']}")
    assert {key: answer["config"].get(key) for key in config} == config


async def test_rule_15_jobs_and_replies_refuse_what_is_new_and_jobs_never_age(bus: Bus) -> None:
    jobs = (await bus.js.info(bus.subjects.jobs_stream))["config"]
    replies = (await bus.js.info(bus.subjects.replies_stream))["config"]
    assert (jobs["discard"], replies["discard"], jobs["max_age"]) == ("new", "new", 0)
    assert replies["max_age"] >= 2 * 12 * 3600 * 10**9


async def test_rule_11_the_server_never_gives_a_job_up_on_its_own(bus: Bus) -> None:
    for name in await bus.topology.declare_consumers("tone", "v1"):
        answer = await bus.js.api(f"CONSUMER.INFO.{bus.subjects.jobs_stream}.{name}")
        assert answer["config"]["max_deliver"] == -1


async def test_limits_follow_the_settings(bus: Bus) -> None:
    larger = msgspec.structs.replace(bus.settings, jobs_max_bytes=96 << 20, ack_wait_s=7.0)
    async with open_bus(larger, "test") as other:
        names = await other.topology.declare_consumers("tone", "v1")
    assert (await bus.js.info(bus.subjects.jobs_stream))["config"]["max_bytes"] == 96 << 20
    answer = await bus.js.api(f"CONSUMER.INFO.{bus.subjects.jobs_stream}.{names[0]}")
    assert answer["config"]["ack_wait"] == 7 * 10**9


async def test_rule_02_a_stream_with_other_subjects_is_an_error_that_prints_both(bus: Bus) -> None:
    config = (await bus.js.info(bus.subjects.dead_stream))["config"]
    await bus.js.api(
        f"STREAM.UPDATE.{bus.subjects.dead_stream}", {**config, "subjects": [f"{bus.subjects.root}.old.>"]}
    )
    with pytest.raises(TopologyMismatch) as caught:
        await bus.topology.declare_streams()
    assert f"{bus.subjects.root}.old.>" in str(caught.value)
    assert bus.subjects.dead in str(caught.value)
    assert (await bus.js.info(bus.subjects.dead_stream))["config"]["subjects"] == [f"{bus.subjects.root}.old.>"]


async def test_rule_02_a_consumer_with_another_filter_is_an_error_that_prints_both(bus: Bus) -> None:
    wanted = consumer(bus.subjects, bus.settings, "tone", "v1", "interactive")
    other = bus.subjects.jobs_of("tone", "v2", "interactive")
    request = {
        "stream_name": bus.subjects.jobs_stream,
        "config": {**wanted, "filter_subject": other},
        "action": "create",
    }
    await bus.js.api(f"CONSUMER.CREATE.{bus.subjects.jobs_stream}.{wanted['name']}.{other}", request)
    with pytest.raises(TopologyMismatch) as caught:
        await bus.topology.declare_consumers("tone", "v1")
    assert other in str(caught.value)
    assert wanted["filter_subject"] in str(caught.value)


async def test_a_consumer_that_cannot_be_made_is_told_by_the_reason_not_by_its_absence(bus: Bus) -> None:
    wanted = consumer(bus.subjects, bus.settings, "tone", "v1", "interactive")
    request = {
        "stream_name": bus.subjects.jobs_stream,
        "config": {**wanted, "name": "rival", "durable_name": "rival"},
        "action": "create",
    }
    await bus.js.api(f"CONSUMER.CREATE.{bus.subjects.jobs_stream}.rival.{wanted['filter_subject']}", request)
    with pytest.raises(ApiError, match=r"not unique|filter"):
        await bus.topology.declare_consumers("tone", "v1")


async def test_many_processes_may_declare_at_once(bus_settings: BusSettings) -> None:
    async def declare() -> list[str]:
        async with open_bus(bus_settings, "test") as bus:
            return await bus.topology.declare_consumers("tone", "v1")

    names = await asyncio.gather(*(declare() for _ in range(8)))
    assert names == [["tone=v1=interactive", "tone=v1=standard", "tone=v1=batch"]] * 8


async def test_a_process_that_starts_without_a_leader_waits_as_long_as_for_a_server(
    bus_settings: BusSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, tries = JetStream.api, list[str]()

    async def api(js: JetStream, subject: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        if len(tries) < 5:
            tries.append(subject)
            raise NoResponders(f"no leader for {subject}")
        return await original(js, subject, *args, **kwargs)

    monkeypatch.setattr(JetStream, "api", api)
    hasty = msgspec.structs.replace(bus_settings, election_patience_s=0.01)
    async with open_bus(hasty, "test") as opened:
        assert len(tries) == 5
        assert await opened.js.info(opened.subjects.jobs_stream)
