"""Jobs published straight to the queue with plain JetStream, read from the live subject and the stream."""

import asyncio
import json
from collections.abc import AsyncIterator

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from tests.support import fleets
from tests.support.fleets import Stack
from tests.support.nats_asking import STEADY, job
from tests.support.nats_cli import nats_pub_jetstream, nats_req
from tests.support.tone import tone_pcm

ENDS = {"done", "failed", "cancelled", "expired"}

#: The gateway has no part in most of this: it answers `cancel`.
stack = fleets.stack(ack_wait_s=30.0)


@pytest.fixture
def root(stack: Stack) -> str:
    return stack.settings.root


@pytest.fixture
async def cli(nats_url: str) -> AsyncIterator[Client]:
    client = await nats.connect(nats_url)
    yield client
    await client.close()


async def to_the_end(subscription: Subscription) -> list[Msg]:
    """Entries up to the terminal one."""
    received: list[Msg] = []
    while not received or kind(received[-1]) not in ENDS:
        received.append(await subscription.next_msg(timeout=30))
    return received


def kind(entry: Msg) -> str:
    return (entry.headers or {}).get("Antiphon-Kind", "")


def pcm(entries: list[Msg]) -> bytes:
    return b"".join(entry.data for entry in entries if kind(entry) == "block")


def queue(root: str, tenant: str = "public") -> str:
    return f"{root}.job.tone.v1.standard.{tenant}"


async def stored(cli: Client, root: str, job_id: str, tenant: str = "public") -> list[Msg]:
    """The log from its beginning, as `nats sub --stream … --all` reads it."""
    subject = f"{root}.reply.{tenant}.{job_id}.c"
    return await to_the_end(await cli.jetstream().subscribe(subject, stream=f"{root.upper()}_REPLIES"))


async def test_a_job_with_an_id_is_received_live_and_read_from_the_stream_sample_exact(cli: Client, root: str) -> None:
    live = await cli.subscribe(f"{root}.live.t1.direct")
    ack = await nats_pub_jetstream(cli, queue(root, "t1"), job({"id": "direct"}, seconds=1.1, block_ms=70))
    assert ack["stream"] == f"{root.upper()}_JOBS"
    received = await to_the_end(live)
    assert pcm(received) == pcm(await stored(cli, root, "direct", "t1")) == tone_pcm(1.1)
    assert kind(received[-1]) == "done"


async def test_a_job_without_an_id_is_called_by_its_sequence_in_the_queue(cli: Client, root: str) -> None:
    ack = await nats_pub_jetstream(cli, queue(root), '{"input":"x"}')
    assert pcm(await stored(cli, root, f"q{ack['seq']}")) == tone_pcm(2.0)


async def test_without_listeners_it_runs_to_its_end(cli: Client, root: str) -> None:
    """A worker looks for listeners every 10 s only if a job does not run on; a direct job does."""
    ack = await nats_pub_jetstream(cli, queue(root), job(seconds=1, **STEADY))
    assert kind((await stored(cli, root, f"q{ack['seq']}"))[-1]) == "done"


async def test_two_messages_with_one_id_are_one_job(cli: Client, root: str) -> None:
    for seconds in (0.5, 0.7):
        await nats_pub_jetstream(cli, queue(root), job({"id": "twice"}, seconds=seconds))
    assert pcm(await stored(cli, root, "twice")) in (tone_pcm(0.5), tone_pcm(0.7))
    jobs = f"{root.upper()}_JOBS"
    async with asyncio.timeout(30):
        while (await cli.jetstream().stream_info(jobs)).state.messages:
            await asyncio.sleep(0.02)
    ends = [entry for entry in await stored(cli, root, "twice") if kind(entry) in ENDS]
    assert [kind(end) for end in ends] == ["done"]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("\x00 no JSON", "JSON"),
        ("{}", "input"),
        ('{"input":"x","tenant":"other"}', "tenant"),
        ('{"input":"x","model":"speech"}', "model"),
        ('{"input":"x","id":"a.b"}', "a.b"),
        ('{"input":"x","params":{"seconds":-1}}', "seconds"),
    ],
)
async def test_a_job_that_can_never_run_ends_its_log_with_the_reason(
    cli: Client, root: str, body: str, word: str
) -> None:
    ack = await nats_pub_jetstream(cli, queue(root), body)
    end = (await stored(cli, root, f"q{ack['seq']}"))[-1]
    failed = json.loads(end.data)
    assert (kind(end), failed["code"]) == ("failed", "invalid")
    assert word in failed["message"]


async def test_cancel_ends_a_direct_job(cli: Client, root: str) -> None:
    live = await cli.subscribe(f"{root}.live.public.away")
    await nats_pub_jetstream(cli, queue(root), job({"id": "away"}, seconds=600, **STEADY))
    assert kind(await live.next_msg(timeout=30)) == "block"
    answer = await nats_req(cli, f"{root}.cancel.public.away", "", timeout_s=20)
    assert answer.json(0) == {"id": "away", "state": "cancelled"}
    assert kind((await to_the_end(live))[-1]) == "cancelled"
