"""A tenant on the bus puts another tenant's ids into every subject that the documentation knows."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.support.nats_asking import STEADY, WHOLE, job
from tests.support.nats_cli import nats_req
from tests.support.nats_users import USERS, Guarded, Visitor, guarded_fleets, visitor
from tests.support.tone import tone_pcm

WORDS = "no other tenant may read this"
PAGE = Path(__file__).parents[4] / "docs" / "nats.md"
READ = "$JS.API.DIRECT.GET.ANTIPHON_REPLIES."


@pytest.fixture(scope="module")
def server() -> Iterator[Guarded]:
    with guarded_fleets() as (server, gateways, workers):
        workers.worker("w1", "tone", 4)
        gateways.gateway()[0].wait_for("submit.ready")
        yield server


@pytest.fixture(params=[("acme", "globex"), ("globex", "acme")], ids="-and-".join)
async def two(server: Guarded, request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, Visitor, str, Visitor]]:
    """An owner and a stranger: a user of the shared account and one with an account of its own, both ways."""
    owner, stranger = request.param
    visits = [await visitor(server, user) for user in (owner, stranger)]
    yield owner, visits[0], stranger, visits[1]
    for visit in visits:
        await visit.client.close()


def subjects(tenant: str, job_id: str) -> dict[str, list[str]]:
    """Every subject of a documented kind, for a tenant and a job: those to publish to, and `sub`: to listen to."""
    return {
        "submit": [f"antiphon.submit.{tenant}", "antiphon.submit"],
        "cancel": [f"antiphon.cancel.{tenant}.{job_id}"],
        "job": [f"antiphon.job.tone.v1.standard.{tenant}"],
        "reply": [
            *(f"{READ}antiphon.reply.{tenant}.{job_id}.{kind}" for kind in ("c", "job", "lease")),
            *(f"antiphon.reply.{tenant}.{job_id}.{kind}" for kind in ("c", "job", "lease")),
        ],
        "live": [f"antiphon.live.{tenant}.{job_id}"],
    }


def test_every_subject_of_the_page_is_walked_here() -> None:
    assert set(re.findall(r"\bantiphon\.(\w+)[.` ']", PAGE.read_text())) == set(subjects("t", "j"))


async def until_refused(visit: Visitor, count: int) -> None:
    """The server's error arrives before the response to a flush, but nats-py reports it in a task of its own."""
    await visit.client.flush()
    async with asyncio.timeout(20):
        while len(visit.refused) < count:
            await asyncio.sleep(0)


async def test_no_subject_with_the_owners_name_is_open_to_a_stranger(two: tuple[str, Visitor, str, Visitor]) -> None:
    owner, owns, stranger, visit = two
    body = {"id": "secret", "input": WORDS, "run_on": True}
    await nats_req(owns.client, f"antiphon.submit.{owner}", job(body, seconds=600, **STEADY), replies=2)
    received: list[Msg] = []

    async def receive(message: Msg) -> None:
        received.append(message)

    inbox = f"{USERS[stranger]}.walk"
    await visit.client.subscribe(f"{inbox}.>", cb=receive)
    walked = 0
    for of_kind in subjects(owner, "secret").values():
        for subject in of_kind:
            for act in ("pub", "sub"):
                named = subject.removeprefix(READ) if act == "sub" else subject
                if act == "sub":
                    await visit.client.subscribe(named, cb=receive)
                else:
                    await visit.client.publish(named, job(body).encode(), reply=f"{inbox}.{walked}")
                walked += 1
                await until_refused(visit, walked)
                assert f'to "{named}"'.lower() in visit.refused[-1].lower()
    assert received == []
    response = await nats_req(owns.client, f"antiphon.cancel.{owner}.secret", "")
    assert response.json(0) == {"id": "secret", "state": "cancelled"}  # until now it ran


async def test_under_its_own_name_a_stranger_finds_nothing_of_the_owners_ids(
    two: tuple[str, Visitor, str, Visitor],
) -> None:
    owner, owns, stranger, visit = two
    its = f"of-{owner}"
    body = {"id": its, "input": WORDS, "run_on": True}
    whole = await nats_req(owns.client, f"antiphon.submit.{owner}", job(body, seconds=0.2), **WHOLE)
    assert whole.pcm == tone_pcm(0.2)
    for request in (cancelled, read_entries):
        assert await request(visit.client, stranger, its) == await request(visit.client, stranger, "of-none")
    mine = {"id": its, "input": "the words of the stranger", "run_on": True}
    # The same id is a job of the stranger's own, and no conflict with another body.
    own = await nats_req(visit.client, f"antiphon.submit.{stranger}", job(mine, seconds=0.1), **WHOLE)
    assert own.pcm == tone_pcm(0.1)
    assert all(WORDS.encode() not in reply.data for reply in own.replies)
    again = await nats_req(owns.client, f"antiphon.submit.{owner}", job(body, seconds=0.2), **WHOLE)
    assert (again.json(0)["job"], again.pcm) == (its, tone_pcm(0.2))


async def cancelled(client: Client, tenant: str, job_id: str) -> str:
    answer = await nats_req(client, f"antiphon.cancel.{tenant}.{job_id}", "")
    headers = json.dumps(dict(answer.replies[0].headers or {}))
    return f"{headers} {answer.replies[0].data.decode()}".replace(job_id, "<id>")


async def read_entries(client: Client, tenant: str, job_id: str) -> list[str]:
    """JetStream's responses to a tenant that may read its own log's entries; none for one that may not."""
    if tenant != "globex":
        return []
    found = []
    for kind in ("c", "job", "lease"):
        answer = await client.request(f"{READ}antiphon.reply.{tenant}.{job_id}.{kind}", b"", timeout=5)
        found.append(f"{answer.headers} {answer.data!r}")
    return found
