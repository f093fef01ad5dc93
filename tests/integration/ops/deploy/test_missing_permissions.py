"""Users of `ops/deploy/nats` without a permission: a request fails at once, and the error names what is missing."""

import asyncio
import re

import aiohttp
import pytest

from bus.access.link_keys import LinkKeyStore
from bus.errors import NotPermitted
from bus.jobs.client import open_bus
from bus.settings import BusSettings
from bus.transport.connection import Connection
from tests.support import guarded_stack
from tests.support.commands import antiphon
from tests.support.doors import gateway_here
from tests.support.guarded_stack import Stack
from tests.support.jobs import tone_job
from tests.support.nats_users import guarded_server

stack = guarded_stack.stack()


@pytest.mark.parametrize("own_parser", [True, False])
@pytest.mark.parametrize("subject", ["antiphon.submit.public", "$JS.API.STREAM.DELETE.ANTIPHON_JOBS"])
async def test_a_request_that_the_user_may_not_send_fails_at_once(subject: str, *, own_parser: bool) -> None:
    with guarded_server() as server:
        settings = BusSettings(nats=server.as_user("gateway"), own_parser=own_parser)
        async with asyncio.timeout(20), await Connection.connect(settings, "gateway") as connection:
            with pytest.raises(NotPermitted, match=re.escape(f"does not permit this user to publish to {subject}")):
                await connection.request(subject, timeout_s=600)


async def test_keys_as_the_user_of_gateways_names_the_permission_and_the_user_that_has_it(stack: Stack) -> None:
    url = stack.server.as_user("gateway")
    done = await asyncio.to_thread(antiphon, "keys", "create", "--tenant", "acme", "--nats", url)
    assert (done.returncode, done.stdout) == (1, "")
    assert "nats-server does not permit this user to subscribe to _INBOX_operator." in done.stderr
    assert "`operator`" in done.stderr
    assert done.stderr.count("\n") == 1


async def test_an_operator_makes_the_key_of_links_and_gateways_revoke_them(stack: Stack) -> None:
    operator = BusSettings(nats=stack.server.as_user("operator"))
    async with asyncio.timeout(30), aiohttp.ClientSession(stack.http) as http:
        async with http.post("/v1/jobs", json={"model": "tone", "input": "x"}) as answer:
            job_id = (await answer.json())["id"]
        async with open_bus(operator, "operator", declare=False) as bus:
            await LinkKeyStore(bus).ensure()
        while True:
            async with http.post(f"/v1/jobs/{job_id}/links") as answer:
                links = await answer.json()
                if answer.status == 200:
                    break
            await asyncio.sleep(0.02)
        async with http.get(links["links"]["marks"]) as answer:
            assert answer.status == 200
        async with http.delete(f"/v1/jobs/{job_id}/links/{links['id']}") as answer:
            assert answer.status == 204
        async with http.get(links["links"]["marks"]) as answer:
            assert answer.status == 401


async def test_without_the_key_of_links_a_gateway_names_the_command_that_makes_it() -> None:
    with guarded_server() as server:
        async with open_bus(BusSettings(nats=server.as_user("operator")), "operator"):
            pass
        async with gateway_here(BusSettings(nats=server.as_user("gateway"))) as (gateway, http):
            await gateway.jobs.accept(tone_job(id="mine"))
            async with asyncio.timeout(20), http.post("/v1/jobs/mine/links") as answer:
                assert (answer.status, (await answer.json())["code"]) == (503, "bus_unreachable")
                assert "an operator does, with `antiphon keys rotate-links`" in (await answer.json())["detail"]
