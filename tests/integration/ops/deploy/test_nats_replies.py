"""Reply subjects with the users of `ops/deploy/nats`: no tenant has a response sent where it could not write itself."""

import asyncio

import pytest
from nats.aio.client import Client

from tests.support import guarded_stack
from tests.support.guarded_stack import Stack
from tests.support.nats_cli import nats_req
from tests.support.nats_users import visitor
from tests.support.waiting import eventually

stack = guarded_stack.stack()
client = guarded_stack.client()


@pytest.mark.parametrize("user", ["globex"])
async def test_a_tenants_own_account_cannot_have_an_answer_sent_into_the_streams(stack: Stack, client: Client) -> None:
    """The reply subject of a request is never checked: in an account of one's own it names nothing but one's own."""
    operator = (await visitor(stack.server, "operator")).client
    before = (await operator.jetstream().stream_info("ANTIPHON_REPLIES")).state.messages
    victims = ["antiphon.reply.public.victim.c", "$JS.API.STREAM.PURGE.ANTIPHON_REPLIES"]
    for victim in victims:
        await client.publish("$JS.API.DIRECT.GET.ANTIPHON_REPLIES.antiphon.reply.globex.mine.c", b"", reply=victim)
        await client.publish("antiphon.cancel.globex.nobody", b"", reply=victim)
        await client.publish("antiphon.submit.globex", b"{}", reply=victim)
    await nats_req(client, "antiphon.cancel.globex.nobody", "", timeout_s=20)
    assert (await operator.jetstream().stream_info("ANTIPHON_REPLIES")).state.messages == before
    await operator.close()


@pytest.mark.parametrize("user", ["acme"])
@pytest.mark.parametrize("victim", ["_INBOX.victim.x", "_INBOX.x", "_INBOX_operator.x", "_INBOX.acme.*"])
async def test_a_tenant_cannot_have_an_answer_sent_to_another_inbox(stack: Stack, client: Client, victim: str) -> None:
    operator = (await visitor(stack.server, "operator")).client
    watched = await operator.subscribe(victim)
    await operator.flush()
    refused = len(stack.gateway.events("submit.reply_refused"))
    await client.publish("antiphon.cancel.acme.nobody", b"", reply=victim)
    await client.publish("antiphon.submit.acme", b"{}", reply=victim)
    await asyncio.to_thread(stack.gateway.wait_for, "submit.reply_refused", refused + 1)
    assert stack.gateway.events("submit.reply_refused")[-1]["required"] == "_INBOX.acme."
    # An answer to the one before it, if there was one, is on its way to the operator.
    await nats_req(client, "antiphon.cancel.acme.nobody", "", timeout_s=20)
    await operator.flush()
    assert watched.pending_msgs == (1 if victim == "_INBOX.acme.*" else 0)  # the last request was its own
    await operator.close()


async def test_no_client_names_the_subjects_by_which_the_server_reaches_other_accounts(stack: Stack) -> None:
    visit = await visitor(stack.server, "acme")
    await visit.client.publish("antiphon.submit.acme", b"{}", reply="_R_.abc.def")
    await eventually(lambda: bool(visit.refused), within_s=20)
    assert "_r_.abc.def" in visit.refused[0].lower()
    await visit.client.close()
