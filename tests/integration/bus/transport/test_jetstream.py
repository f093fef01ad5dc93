"""JetStream as we use it, and the properties of the server that we rely on."""

import asyncio
import time
from pathlib import Path

import msgspec
import pytest

from bus.errors import ApiError, Full, Unreachable
from bus.jobs.client import Bus, open_bus
from bus.settings import BusSettings
from bus.transport.jetstream import (
    EXPECT_LAST,
    EXPECT_LAST_SUBJECT,
    MESSAGE_ID,
    WRONG_LAST_SEQUENCE,
    PubAck,
    is_missing_stream,
)
from tests.support.bus import footprint
from tests.support.restarts import own_server


async def test_the_server_compares_sequences_before_it_looks_for_duplicates(bus: Bus) -> None:
    """So a repeated take of a lease is refused although the first one was stored: `Logs.take` must look."""
    name = bus.subjects.job_key("public", "j")
    headers = {EXPECT_LAST: "0", MESSAGE_ID: "once"}
    assert await bus.js.publish(name.lease, b"{}", headers) == PubAck(1)
    with pytest.raises(ApiError) as caught:
        await bus.js.publish(name.lease, b"{}", headers)
    assert caught.value.err_code == WRONG_LAST_SEQUENCE


async def test_a_repeated_append_is_a_duplicate_while_its_lease_stands_and_refused_after(bus: Bus) -> None:
    name = bus.subjects.job_key("public", "j")
    await bus.js.publish(name.lease, b"{}", {EXPECT_LAST: "0"})
    append = {EXPECT_LAST: "1", EXPECT_LAST_SUBJECT: name.lease, MESSAGE_ID: "public.j.1.0"}
    assert await bus.js.publish(name.entries, b"x", append) == PubAck(2)
    assert await bus.js.publish(name.entries, b"x", append) == PubAck(2, duplicate=True)
    await bus.js.publish(name.lease, b"{}", {EXPECT_LAST: "1"})
    with pytest.raises(ApiError) as caught:
        await bus.js.publish(name.entries, b"x", append)
    assert caught.value.err_code == WRONG_LAST_SEQUENCE


async def test_rule_09_an_absent_lease_is_a_fence_like_any_other(bus: Bus) -> None:
    name = bus.subjects.job_key("public", "j")
    lease = await bus.js.publish(name.lease, b"{}", {EXPECT_LAST: "0"})
    await bus.js.delete(bus.subjects.replies_stream, lease.seq)
    append = {EXPECT_LAST: str(lease.seq), EXPECT_LAST_SUBJECT: name.lease}
    with pytest.raises(ApiError) as caught:
        await bus.js.publish(name.entries, b"x", append)
    assert caught.value.err_code == WRONG_LAST_SEQUENCE


async def test_pages_hold_every_message_of_a_subject_once_and_the_number_of_the_rest(bus: Bus) -> None:
    mine, other = bus.subjects.job_key("public", "a").entries, bus.subjects.job_key("public", "b").entries
    for k in range(25):
        await bus.js.publish(mine, b"%d" % k)
        await bus.js.publish(other, b"other")
    seen, left, seq = [], [], 1
    while not left or left[-1]:
        page, pending = await bus.js.direct.page(bus.subjects.replies_stream, mine, seq, batch=10)
        seen += [stored.message.data for stored in page]
        assert {stored.message.subject for stored in page} == {mine}
        left.append(pending)
        seq = page[-1].seq + 1
    assert seen == [b"%d" % k for k in range(25)]
    assert left == [15, 5, 0]
    assert await bus.js.direct.page(bus.subjects.replies_stream, mine, seq) == ([], 0)


async def test_a_page_ends_after_max_bytes_but_never_before_its_first_message(bus: Bus) -> None:
    subject = bus.subjects.job_key("public", "a").entries
    for _ in range(5):
        await bus.js.publish(subject, bytes(10_000))
    page, pending = await bus.js.direct.page(bus.subjects.replies_stream, subject, 1, max_bytes=100)
    assert len(page) >= 1
    assert len(page) + pending == 5
    assert pending > 0


async def test_direct_next_finds_the_first_message_at_or_after_a_sequence(bus: Bus) -> None:
    subjects = [bus.subjects.job_key("public", job).birth for job in ("a", "b")]
    acks = [await bus.js.publish(subject, b"x") for subject in subjects]
    found = await bus.js.direct.next(bus.subjects.replies_stream, bus.subjects.births_of("public"), acks[0].seq + 1)
    assert found is not None
    assert (found[0].seq, found[0].message.subject, found[1]) == (acks[1].seq, subjects[1], 0)
    assert await bus.js.direct.next(bus.subjects.replies_stream, subjects[0], acks[0].seq + 1) is None


async def test_last_and_at_read_headers_and_data_and_return_none_for_deleted_messages(bus: Bus) -> None:
    subject = bus.subjects.job_key("public", "a").entries
    assert await bus.js.last(bus.subjects.replies_stream, subject) is None
    ack = await bus.js.publish(subject, b"\x00\xff", {"A": "b"})
    for found in (
        await bus.js.last(bus.subjects.replies_stream, subject),
        await bus.js.at(bus.subjects.replies_stream, ack.seq),
    ):
        assert found is not None
        assert (found.seq, found.message.data, found.message.header("A")) == (ack.seq, b"\x00\xff", "b")
    await bus.js.delete(bus.subjects.replies_stream, ack.seq)
    await bus.js.delete(bus.subjects.replies_stream, ack.seq)
    assert await bus.js.at(bus.subjects.replies_stream, ack.seq) is None


async def test_a_full_stream_and_a_missing_one_raise_different_errors(bus_settings: BusSettings) -> None:
    settings = msgspec.structs.replace(bus_settings, jobs_max_bytes=4096)
    async with open_bus(settings, "test") as bus:
        subject = bus.subjects.job("m", "v1", "batch", "t")
        for _ in range(3):
            await bus.js.publish(subject, bytes(1000))
        with pytest.raises(Full):
            await bus.js.publish(subject, bytes(1000))
        with pytest.raises(ApiError) as caught:
            await bus.js.info("NOT_THERE")
        assert is_missing_stream(caught.value)
        assert not isinstance(caught.value, Full)


async def test_operations_in_progress_when_the_server_dies_succeed_when_it_is_back(
    tmp_path: Path, bus_settings: BusSettings
) -> None:
    with own_server(tmp_path) as server:
        # Longer than the test: a reply that never comes must not be waited for.
        settings = msgspec.structs.replace(
            bus_settings, nats=server.url, request_timeout_s=60.0, election_patience_s=60.0
        )
        async with open_bus(settings, "test") as bus:
            subject = bus.subjects.job_key("public", "a").entries
            for k in range(200):
                await bus.js.publish(subject, b"%d" % k, {MESSAGE_ID: f"first.{k}"})
            before = footprint(bus.connection)
            under_way = [
                asyncio.ensure_future(bus.js.direct.page(bus.subjects.replies_stream, subject, 1)),
                asyncio.ensure_future(bus.js.last(bus.subjects.replies_stream, subject)),
                asyncio.ensure_future(bus.js.publish(subject, b"200", {MESSAGE_ID: "first.200"})),
            ]
            await asyncio.sleep(0)  # they are written in this turn of the loop
            server.kill()
            server.start()
            async with asyncio.timeout(30):
                page, last, ack = await asyncio.gather(*under_way)
            assert len(page[0]) >= 200  # type: ignore[index,arg-type]
            assert last.seq >= 200  # type: ignore[union-attr]
            assert ack.seq == 201  # type: ignore[union-attr]
            assert footprint(bus.connection) == before


async def test_patience_ends_and_the_error_names_the_operation(bus: Bus) -> None:
    async def fails() -> None:
        raise Unreachable("down")

    started = time.monotonic()
    with pytest.raises(Unreachable, match=r"the thing: gave up after 0\.2 s: down"):
        await bus.js.retry("the thing", fails, patience_s=0.2)
    assert time.monotonic() - started < bus.settings.election_patience_s / 2, "its own patience, not the bus's"


async def test_a_process_frozen_between_two_tries_does_not_try_again(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server would have forgotten the message's id and store it twice."""
    tries = 0
    frozen_s = 0.0

    async def fails() -> None:
        nonlocal tries, frozen_s
        tries += 1
        frozen_s = 1000.0
        raise Unreachable("down")

    now = time.monotonic
    calls = 0

    def clock() -> float:
        nonlocal calls
        calls += 1
        return now() + (frozen_s if calls > 2 else 0.0)  # the freeze is seen after the sleep only

    monkeypatch.setattr("bus.transport.jetstream.time.monotonic", clock)
    with pytest.raises(Unreachable):
        await bus.js.retry("the thing", fails, patience_s=100)
    assert tries == 1
