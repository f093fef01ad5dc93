"""What a gateway does beside answering: acceptances cut off, deadlines, keep-alives, cancels over the bus."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bus import wire
from bus.errors import NoResponders
from bus.jobs.client import Bus, open_bus
from bus.jobs.entry import Position
from bus.jobs.log import Logs, Writer
from bus.settings import BusSettings
from gateway.api import events
from gateway.nats.cancels import Cancels
from tests.support.bus import num_jobs
from tests.support.doors import Events, gateway_here
from tests.support.jobs import tone_job


async def write_log(bus: Bus, job: wire.Job, blocks: int, *, done: bool) -> Writer:
    """Be the worker of a job that was submitted: some blocks of ten frames each, and its end."""
    name = bus.subjects.job_key("public", job.id)
    lease = wire.Lease(state=wire.LeaseState.RUNNING, worker="w0", boot="b", attempt=1)
    started = wire.Started(media=wire.media_type(24_000, 1), worker="w0", attempt=1, model="tone", version="v1")
    seq = await bus.logs.take(name, lease, 0)
    writer = Writer(bus.logs, name, seq, lease, Position(), started, 5.0)
    for block in range(blocks):
        await writer.block(bytes([block]) * 20, 10)
    if done:
        end = wire.Done(blocks=blocks, frames=10 * blocks, seconds=blocks / 2400, crc32=f"{writer.position.crc32:08x}")
        await writer.end(wire.End.DONE, end)
    return writer


async def ended(bus: Bus, job: wire.Job, within_s: float = 20.0) -> str:
    name = bus.subjects.job_key("public", job.id)
    async with asyncio.timeout(within_s):
        while (tail := await bus.logs.tail(name)) is None or not tail.is_end:
            await asyncio.sleep(0.01)
    return tail.kind


async def until_queued(bus: Bus, most: int) -> None:
    """Until the queue has so few messages: whoever ends a job takes its message out after the end is in its log."""
    async with asyncio.timeout(20):
        while await num_jobs(bus) > most:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("cut_at", ["before the queue has it", "before its birth", "after its birth"])
async def test_a_client_that_leaves_in_the_middle_of_the_acceptance_leaves_no_orphan(
    bus_settings: BusSettings, monkeypatch: pytest.MonkeyPatch, cut_at: str
) -> None:
    async with gateway_here(bus_settings) as (gateway, _):
        reached, job = asyncio.Event(), tone_job()
        name = gateway.bus.subjects.job_key("public", job.id)
        create, publish = Logs.create, gateway.bus.js.publish

        async def stuck(*arguments: Any, **more: Any) -> Any:
            if cut_at == "after its birth":
                await create(*arguments, **more)
            reached.set()
            await asyncio.Event().wait()

        if cut_at == "before the queue has it":
            monkeypatch.setattr(gateway.bus.js, "publish", stuck)
        else:
            monkeypatch.setattr(Logs, "create", stuck)

        async def client() -> None:
            async with gateway.interest.listen(name, run_on=False, linger_s=0) as listener:
                await gateway.jobs.accept(job, listener)

        asking = asyncio.create_task(client())
        await reached.wait()
        monkeypatch.setattr(Logs, "create", create)
        monkeypatch.setattr(gateway.bus.js, "publish", publish)
        asking.cancel()
        assert await ended(gateway.bus, job) == "cancelled"
        # A message without a birth is surplus: the worker that pulls it finds the birth of the other one.
        await until_queued(gateway.bus, 1 if cut_at == "before its birth" else 0)


async def test_an_accepted_job_that_nobody_takes_is_ended_at_its_deadline(bus_settings: BusSettings) -> None:
    async with gateway_here(bus_settings) as (gateway, _):
        job = tone_job(expires_at=datetime.now(UTC) + timedelta(seconds=0.3))
        await gateway.jobs.accept(job)
        assert await ended(gateway.bus, job) == "expired"
        await until_queued(gateway.bus, 0)


async def test_any_question_ends_a_job_that_is_past_its_deadline(bus_settings: BusSettings) -> None:
    async with gateway_here(bus_settings) as (gateway, http):
        due = datetime.now(UTC) + timedelta(seconds=0.2)
        job = tone_job(expires_at=due)
        await gateway.jobs.accept(job)
        gateway.deadlines.close()
        await asyncio.sleep(due.timestamp() - gateway.bus.clock.now() + 0.01)
        async with http.get(f"/v1/jobs/{job.id}") as answer:
            shown = await answer.json()
        assert (shown["state"], shown["error"]["code"]) == ("expired", "expired")
        async with http.get(f"/v1/jobs/{job.id}/audio") as answer:
            assert (answer.status, (await answer.json())["code"]) == (504, "expired")


async def test_silence_on_the_event_stream_is_filled(
    bus_settings: BusSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_KEEP_ALIVE_S", 0.1)
    monkeypatch.setattr(events, "_QUEUE_S", 0.05)
    async with gateway_here(bus_settings) as (gateway, http):
        job = tone_job()
        await gateway.jobs.accept(job)
        async with asyncio.timeout(20), http.get(f"/v1/jobs/{job.id}/events") as answer:
            stream = Events(answer)
            assert [event["event"] for event in await stream.until("queue")] == ["accepted", "queue"]
            assert await stream.next() == {"comment": "still here"}


async def test_events_tell_a_failed_job_as_it_went(bus_settings: BusSettings) -> None:
    async with gateway_here(bus_settings) as (gateway, http):
        job = tone_job()
        await gateway.jobs.accept(job)
        async with asyncio.timeout(20), http.get(f"/v1/jobs/{job.id}/events") as answer:
            stream = Events(answer)
            await stream.until("queue")
            writer = await write_log(gateway.bus, job, 2, done=False)
            await writer.progress(wire.Progress(phase="denoise", done=3, total=9))
            await writer.checkpoint(wire.Checkpoint(frame=20, data=b"secret"))
            await writer.end(wire.End.FAILED, wire.Failed(code="engine_failed", message="it\nbroke"))
            told = await stream.rest()
        assert [event["event"] for event in told] == ["started", "progress", "checkpoint", "failed"]
        assert told[0]["data"]["media"] == "audio/L16;rate=24000;channels=1"
        assert told[1]["data"] == {"phase": "denoise", "done": 3, "total": 9}
        assert told[2]["data"] == {}
        assert told[3]["data"]["message"] == "it\nbroke"
        # With the id of any event the stream goes on behind it; behind the last there is nothing to come back for.
        async with http.get(f"/v1/jobs/{job.id}/events", headers={"Last-Event-ID": told[1]["id"]}) as answer:
            again = await Events(answer).rest()
        assert again == told[2:]
        async with http.get(f"/v1/jobs/{job.id}/events", headers={"Last-Event-ID": told[3]["id"]}) as answer:
            assert answer.status == 204


async def test_a_cancel_over_the_bus_is_answered_with_how_the_job_ended(bus_settings: BusSettings) -> None:
    async with (
        gateway_here(bus_settings) as (gateway, _),
        open_bus(bus_settings, "test") as asker,  # a gateway never answers into a gateway's own inbox
        asyncio.TaskGroup() as tasks,
    ):
        bus = gateway.bus
        service = tasks.create_task(Cancels(bus, gateway.authenticator, tasks).run())
        await asyncio.sleep(0)
        job, finished = tone_job(), tone_job()
        for each in (job, finished):
            await gateway.jobs.accept(each)
        await write_log(bus, finished, 1, done=True)
        for each, state in ((job, "cancelled"), (job, "cancelled"), (finished, "done")):
            answer = await asker.connection.request(bus.subjects.cancel("public", each.id))
            assert json.loads(answer.data) == {"id": each.id, "state": state}
        answer = await asker.connection.request(bus.subjects.cancel("public", "nobody"))
        assert answer.header("Nats-Service-Error-Code") == "400"
        assert "nobody" in (answer.header("Nats-Service-Error") or "")
        assert json.loads(answer.data)["code"] == "not_found"
        service.cancel()


async def test_a_finished_job_is_a_file_with_ranges(bus_settings: BusSettings) -> None:
    async with gateway_here(bus_settings) as (gateway, http):
        job = tone_job()
        await gateway.jobs.accept(job)
        await write_log(gateway.bus, job, 40, done=True)
        pcm = b"".join(bytes([block]) * 20 for block in range(40))
        path = f"/v1/jobs/{job.id}/audio"
        async with http.get(path) as answer:
            wav = await answer.read()
            assert (answer.status, int(answer.headers["Content-Length"])) == (200, len(wav))
            assert answer.headers["Accept-Ranges"] == "bytes"
            etag = answer.headers["ETag"]
        assert wav[4:8] == (len(wav) - 8).to_bytes(4, "little")
        assert wav[40:] == (800).to_bytes(4, "little") + pcm
        for asked, start, stop in (
            ("bytes=0-9", 0, 10),
            ("bytes=40-63", 40, 64),
            ("bytes=301-302", 301, 303),
            ("bytes=-7", 837, 844),
            ("bytes=843-", 843, 844),
            ("bytes=100-99999", 100, 844),
        ):
            async with http.get(path, headers={"Range": asked}) as answer:
                assert (answer.status, await answer.read()) == (206, wav[start:stop]), asked
                assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/844"
        async with http.get(path, headers={"Range": "bytes=844-"}) as answer:
            assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */844")
            assert (await answer.json())["code"] == "range_not_satisfiable"
        async with http.get(path, headers={"If-None-Match": etag}) as answer:
            assert (answer.status, await answer.read()) == (304, b"")
        async with http.get(path, headers={"Range": "bytes=0-9", "If-Range": '"other"'}) as answer:
            assert (answer.status, await answer.read()) == (200, wav)
        async with http.head(path) as answer:
            assert (answer.status, answer.headers["Content-Length"]) == (200, "844")
        async with http.get(f"{path}?format=pcm&from_frame=395") as answer:
            assert await answer.read() == pcm[790:]
        assert not gateway.interest._listeners


async def test_a_block_is_had_by_its_number_and_absence_says_of_which_kind(bus_settings: BusSettings) -> None:
    async with gateway_here(bus_settings) as (gateway, http):
        job, other = tone_job(), tone_job()
        for each in (job, other):
            await gateway.jobs.accept(each)
        writer = await write_log(gateway.bus, job, 9, done=False)
        await writer.progress(wire.Progress(phase="x", done=1))
        await write_log(gateway.bus, other, 5, done=True)
        await writer.block(b"\x09" * 20, 10)
        for number in range(10):
            async with http.get(f"/v1/jobs/{job.id}/blocks/{number}") as answer:
                assert (answer.status, (await answer.read())[44:]) == (200, bytes([number]) * 20)
                assert answer.headers["Antiphon-Frame"] == str(number * 10)
        for job_id, number, code in (
            (job.id, "10", "block_not_yet"),
            (other.id, "5", "no_such_block"),
            (job.id, "-1", "not_found"),
        ):
            async with http.get(f"/v1/jobs/{job_id}/blocks/{number}") as answer:
                assert (answer.status, (await answer.json())["code"]) == (404, code)


async def test_a_log_that_lost_its_beginning_is_gone_as_a_whole(bus_settings: BusSettings) -> None:
    async with gateway_here(bus_settings) as (gateway, http):
        job = tone_job()
        done = await gateway.jobs.accept(job)
        await write_log(gateway.bus, job, 3, done=True)
        await gateway.bus.js.delete(gateway.bus.subjects.replies_stream, done.seq + 2)
        for path in ("audio", "blocks/0"):
            async with http.get(f"/v1/jobs/{job.id}/{path}") as answer:
                assert (answer.status, (await answer.json())["code"]) == (410, "gone")


async def test_listeners_of_a_process_that_ends_did_not_leave(bus_settings: BusSettings) -> None:
    async with gateway_here(bus_settings) as (gateway, _):
        name = gateway.bus.subjects.job_key("public", "j1")
        settling = []
        for closing in (False, True):
            if closing:
                gateway.interest.close()
            async with gateway.interest.listen(name, run_on=False, linger_s=0):
                await asyncio.sleep(0)
            settling.append([task for task in asyncio.all_tasks() if task.get_name() == "left j1"])
            await asyncio.gather(*settling[-1])
        assert [len(tasks) for tasks in settling] == [1, 0]


async def test_cancels_need_a_gateway(bus_settings: BusSettings) -> None:
    async with gateway_here(bus_settings) as (gateway, _):
        with pytest.raises(NoResponders):
            await gateway.bus.connection.request(gateway.bus.subjects.cancel("public", "j"))
