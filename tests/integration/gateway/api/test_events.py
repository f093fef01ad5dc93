"""The log of a job as server-sent events."""

import asyncio
from typing import Any

from bus import wire
from bus.settings import BusSettings
from gateway.api.events import LogEvents
from tests.support.doors import Events, gateway_here
from tests.support.jobs import tone_job
from tests.support.log_writer import write_log


async def test_without_entries_the_queue_position_is_sent_and_then_comments(bus_settings: BusSettings) -> None:
    class Response:
        def __init__(self) -> None:
            self.texts: asyncio.Queue[bytes] = asyncio.Queue()

        async def write(self, text: bytes) -> None:
            self.texts.put_nowait(text)

    async with gateway_here(bus_settings) as (gateway, _):
        job, response = tone_job(), Response()
        await gateway.jobs.accept(job)
        key = gateway.jobs.key(job.tenant, job.id)
        stand_in: Any = response
        events = LogEvents(gateway.jobs, key, await gateway.jobs.find(key), stand_in)
        writing = asyncio.create_task(events.write_queue_positions(every_s=0.05, keep_alive_s=0.1))
        async with asyncio.timeout(20):
            assert (await response.texts.get()).startswith(b"event: queue\ndata: {")
            assert await response.texts.get() == await response.texts.get() == b": still here\n\n"
        writing.cancel()


async def test_the_events_of_a_failed_job_resume_after_any_of_them(bus_settings: BusSettings) -> None:
    async with gateway_here(bus_settings) as (gateway, http):
        job = tone_job()
        await gateway.jobs.accept(job)
        async with asyncio.timeout(20), http.get(f"/v1/jobs/{job.id}/events") as answer:
            stream = Events(answer)
            await stream.until("queue")
            writer = await write_log(gateway.bus, job, 2, is_done=False)
            await writer.progress(wire.Progress(phase="denoise", done=3, total=9))
            await writer.checkpoint(wire.Checkpoint(frame=20, data=b"secret"))
            await writer.end(wire.End.FAILED, wire.Failed(code="engine_failed", message="it\nbroke"))
            received = await stream.rest()
        assert [event["event"] for event in received] == ["started", "progress", "checkpoint", "failed"]
        assert received[0]["data"]["media"] == "audio/L16;rate=24000;channels=1"
        assert received[1]["data"] == {"phase": "denoise", "done": 3, "total": 9}
        assert received[2]["data"] == {}
        assert received[3]["data"]["message"] == "it\nbroke"
        # With the id of any event the stream goes on after it; after the last one no event follows.
        async with http.get(f"/v1/jobs/{job.id}/events", headers={"Last-Event-ID": received[1]["id"]}) as answer:
            again = await Events(answer).rest()
        assert again == received[2:]
        async with http.get(f"/v1/jobs/{job.id}/events", headers={"Last-Event-ID": received[3]["id"]}) as answer:
            assert answer.status == 204
