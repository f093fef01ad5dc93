"""`antiphon dead`: dead letters can be found, understood, tried again and dropped."""

import asyncio

import pytest

from bus import wire
from bus.errors import Invalid, NotFound
from bus.jobs.client import Bus
from bus.jobs.dead_letters import DeadLetters
from tests.support.bus import until
from tests.support.commands import antiphon, json_of, on_bus
from tests.support.jobs import listen, tone_job
from tests.support.programs import Fleet
from tests.support.tone import tone_pcm

POISON = {"kind": "exit", "at_block": 1, "times": 2}


async def dead_letter(bus: Bus, job: wire.Job) -> None:
    """A dead letter as a worker leaves it."""
    dead = wire.DeadJob(
        reason="died [too] often",
        subject=bus.subjects.job(job.model, job.version, job.lane, job.tenant),
        payload=wire.encode(job),
        attempts=2,
        worker="w7",
        traceback="where [it] was",
    )
    await bus.js.publish(bus.subjects.dead_job(job.tenant, job.id), wire.encode(dead))


async def test_a_job_whose_file_is_gone_is_not_tried_again(bus: Bus) -> None:
    job = wire.Job(
        id="j1", model="tone", version="v1", lane="standard", tenant="acme", input="x", inputs={"take": "0" * 64}
    )
    await dead_letter(bus, job)
    done = await on_bus(bus, "dead", "retry", "j1")
    assert done.returncode == 1
    assert "inputs.take: there is no blob" in done.stderr
    assert (await json_of(bus, "dead", "show", "j1"))["id"] == "j1"


@pytest.mark.slow
async def test_a_poison_job_is_listed_shown_and_tried_again_under_a_new_id(fleet: Fleet, bus: Bus) -> None:
    """After two hosts it is given up, although five attempts are allowed; a new job begins with none spent."""
    fleet.worker("w1", "tone", 8, "--max-fails", "0")
    job = tone_job(seconds=1, fault={**POISON, "times": 1})
    poison = tone_job(seconds=1, fault=POISON)
    async with asyncio.timeout(90):
        assert (await listen(bus, job)).end.kind == "done"
        assert (await listen(bus, poison)).end.kind == "failed"
        listed = (await json_of(bus, "dead", "list"))["dead"]
        assert [(dead["id"], dead["attempts"], dead["host_deaths"]) for dead in listed] == [(poison.id, 2, 2)]
        shown = await json_of(bus, "dead", "show", poison.id)
        assert (shown["worker"], shown["job"]["params"]["seconds"]) == ("w1", 1)
        assert "exited with code 3" in shown["reason"]
        again = await json_of(bus, "dead", "retry", poison.id)
        assert (again["retry_of"], again["id"] != poison.id) == (poison.id, True)
        found = await bus.logs.birth(bus.subjects.job_key("public", again["id"]))
        assert found is not None
        assert found[1].job.retry_of == poison.id
        assert poison.id not in {dead["id"] for dead in (await json_of(bus, "dead", "list"))["dead"]}


async def test_a_retried_job_runs_to_its_end(fleet: Fleet, bus: Bus) -> None:
    fleet.worker()
    job = tone_job(seconds=0.5)
    await dead_letter(bus, job)
    letters = DeadLetters(bus)
    again = await letters.retry(await letters.find(job.id))
    async with asyncio.timeout(30):
        while (tail := await bus.logs.tail(bus.subjects.job_key("public", again.id))) is None or not tail.is_end:
            await asyncio.sleep(0.01)
    assert wire.decode(wire.Done, tail.payload).frames * 2 == len(tone_pcm(0.5))
    assert (again.expires_at, again.retry_of) != (None, "")


async def test_a_message_that_never_was_a_job_is_shown_as_it_came_and_cannot_be_tried_again(
    fleet: Fleet, bus: Bus
) -> None:
    worker = fleet.worker()
    ack = await bus.js.publish(bus.subjects.job("tone", "v1", "interactive", "public"), b"garbage\xff")
    await asyncio.to_thread(worker.wait_for, "job.dead_lettered")

    async def is_there() -> bool:  # that line is written before the letter
        return bool(await DeadLetters(bus).newest(1))

    await until(is_there)
    shown = await json_of(bus, "dead", "show", f"q{ack.seq}")
    assert shown["payload"] == "garbage\\xff"
    assert shown["reason"]
    refused = await on_bus(bus, "dead", "retry", f"q{ack.seq}")
    assert refused.returncode == 1
    assert "no job" in refused.stderr
    await json_of(bus, "dead", "drop", f"q{ack.seq}")
    with pytest.raises(NotFound):
        await DeadLetters(bus).find(f"q{ack.seq}")


async def test_a_direct_job_without_an_id_can_be_tried_again(bus: Bus) -> None:
    """The bus named it after its message: the new one must not bear that name."""
    await dead_letter(bus, tone_job(id="q7"))
    letters = DeadLetters(bus)
    again = await letters.retry(await letters.find("q7"))
    assert (again.retry_of, again.model) == ("q7", "tone")


async def test_one_id_of_two_tenants_needs_the_tenant_said(bus: Bus) -> None:
    for tenant in ("one", "two"):
        await dead_letter(bus, tone_job(id="same", tenant=tenant))
    letters = DeadLetters(bus)
    with pytest.raises(Invalid, match="one, two"):
        await letters.find("same")
    assert (await letters.find("same", "two")).tenant == "two"
    with pytest.raises(NotFound):
        await letters.find("same", "three")


async def test_the_newest_come_first_and_no_more_than_the_limit(bus: Bus) -> None:
    for number in range(5):
        await dead_letter(bus, tone_job(id=f"j{number}"))
    assert [letter.job for letter in await DeadLetters(bus).newest(3)] == ["j4", "j3", "j2"]


async def test_a_person_gets_a_table_with_every_character_of_the_reason(bus: Bus) -> None:
    await dead_letter(bus, tone_job(id="j1"))
    listed = await on_bus(bus, "dead", "list")
    assert "[too]" in listed.stdout
    shown = await on_bus(bus, "dead", "show", "j1")
    assert "where [it] was" in shown.stdout


async def test_a_list_leaves_the_limits_of_a_running_deployment_alone(bus: Bus) -> None:
    before = (await bus.js.info(bus.subjects.jobs_stream))["config"]
    await json_of(bus, "dead", "list")
    assert (await bus.js.info(bus.subjects.jobs_stream))["config"] == before


@pytest.mark.parametrize(
    ("args", "said"),
    [(("dead", "show", "none"), "no dead letter 'none'"), (("dead", "drop", "a.b"), "'a.b' must be 1 to 64")],
)
async def test_an_unknown_letter_is_reported_in_one_line(bus: Bus, args: tuple[str, ...], said: str) -> None:
    done = await on_bus(bus, *args)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert said in done.stderr


async def test_a_root_that_is_not_there_is_said(bus: Bus) -> None:
    flags = ("--nats", bus.settings.nats, "--root", "elsewhere")
    done = await asyncio.to_thread(antiphon, "dead", "list", *flags)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "elsewhere" in done.stderr
