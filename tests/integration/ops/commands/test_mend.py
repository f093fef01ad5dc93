"""`antiphon mend` ends the jobs that a store has lost, and no others."""

from bus import wire
from bus.jobs.client import Bus
from bus.jobs.submit import submit
from tests.support.commands import json_of, on_bus
from tests.support.jobs import tone_job
from tests.support.log_writer import write_log


async def test_mend_ends_the_lost_jobs_and_lists_them(bus: Bus) -> None:
    lost, queued, running, done = (tone_job(id=name) for name in ("lost", "queued", "running", "done"))
    seqs = {job.id: (await submit(bus, job)).birth.queue_seq for job in (lost, queued, running, done)}
    await write_log(bus, running, 2, is_done=False)
    await write_log(bus, done, 2)
    for name in ("lost", "done"):
        await bus.js.delete(bus.subjects.jobs_stream, seqs[name])
    assert await json_of(bus, "mend") == {"lost": [{"tenant": "public", "id": "lost"}]}
    tails = {
        job.id: await bus.logs.tail(bus.subjects.job_key("public", job.id)) for job in (lost, queued, running, done)
    }
    assert {name: tail and tail.kind for name, tail in tails.items()} == {
        "lost": "failed",
        "queued": None,
        "running": "block",
        "done": "done",
    }
    assert tails["lost"] is not None
    assert wire.decode(wire.Failed, tails["lost"].payload).code == "interrupted"
    again = await on_bus(bus, "mend")
    assert (again.returncode, again.stdout) == (0, "0 jobs are lost\n")
