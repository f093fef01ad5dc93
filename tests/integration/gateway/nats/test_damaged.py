"""A damaged log over NATS, and behind an identical request."""

import pytest
from nats.aio.client import Client

from bus.jobs.client import open_bus
from bus.settings import BusSettings
from tests.support import nats_asking
from tests.support.nats_asking import STEADY, WHOLE, Stack, job
from tests.support.nats_cli import nats_req

stack = nats_asking.stack()
cli = nats_asking.cli()


async def lose_a_block(stack: Stack, job_id: str) -> None:
    """Remove the second block of a finished job of `public`, as a damaged store does."""
    async with open_bus(BusSettings(nats=stack.url, root=stack.root), "test", declare=False) as bus:
        key = bus.subjects.job_key("public", job_id)
        page, _ = await bus.js.direct.page(bus.subjects.replies_stream, key.entries, 1)
        assert len(page) > 3
        await bus.js.delete(bus.subjects.replies_stream, page[1].seq)


@pytest.mark.parametrize("encoding", ["raw", "json"])
async def test_a_damaged_log_ends_the_reply_with_its_lost_frames(stack: Stack, cli: Client, encoding: str) -> None:
    body = job({"id": f"damaged-{encoding}"}, seconds=0.5, **STEADY)
    headers = {"Antiphon-Encoding": encoding}
    whole = await nats_req(cli, stack.submit, body, headers, **WHOLE)
    assert whole.of_kind("done")
    await lose_a_block(stack, f"damaged-{encoding}")
    answer = await nats_req(cli, stack.submit, body, headers, **WHOLE)
    problem = answer.json(-2)
    assert (problem["status"], problem["code"]) == (502, "log_damaged")
    assert problem["detail"].startswith("frames ")
    assert answer.replies[-1].data == b""
