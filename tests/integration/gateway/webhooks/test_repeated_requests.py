"""Concurrent requests of one id at two gateways: whichever makes the job, its events are delivered."""

from typing import Any

import msgspec
import pytest

from bus.errors import Conflict
from bus.settings import BusSettings
from bus.webhook import Webhook
from bus.wire import Client
from tests.support.doors import gateway_here
from tests.support.jobs import tone_job


async def test_a_refused_request_removes_no_webhook_that_another_relied_on(
    bus_settings: BusSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two bodies under one id: the second one is accepted between the first one's webhook and its refusal."""
    webhook = Client(api="jobs", webhook=Webhook(url="http://localhost/x"))
    job = msgspec.structs.replace(tone_job(), client=webhook)
    other = msgspec.structs.replace(job, input="something else")
    async with gateway_here(bus_settings) as (gateway, _):
        original = gateway.jobs.accept

        async def late(*given: Any) -> Any:
            monkeypatch.undo()
            await gateway.webhooks.accept(other)
            return await original(*given)

        monkeypatch.setattr(gateway.jobs, "accept", late)
        with pytest.raises(Conflict):
            await gateway.webhooks.accept(job)
        state = (await gateway.bus.js.info(gateway.bus.subjects.hooks_stream))["state"]
        assert state["messages"] == 1


@pytest.mark.parametrize("is_refused", [False, True])
async def test_the_second_request_removes_no_webhook(
    bus_settings: BusSettings, monkeypatch: pytest.MonkeyPatch, is_refused: bool
) -> None:
    job = msgspec.structs.replace(tone_job(), client=Client(api="jobs", webhook=Webhook(url="http://localhost/x")))
    async with gateway_here(bus_settings) as (gateway, _):
        original = gateway.jobs.accept

        async def late(*given: Any) -> Any:
            monkeypatch.undo()
            if is_refused:
                monkeypatch.setattr(gateway.jobs, "accept", refused_then_accepted)
            await gateway.webhooks.accept(job)
            return await original(*given)

        async def refused_then_accepted(*given: Any) -> Any:
            # The other request is refused, and removes its message, before this one is accepted.
            stored = await gateway.bus.js.direct.next(
                gateway.bus.subjects.hooks_stream, gateway.bus.subjects.all_hooks, 1
            )
            assert stored is not None
            await gateway.webhook_queue.remove(stored[0].seq)
            return await original(*given)

        monkeypatch.setattr(gateway.jobs, "accept", late)
        await gateway.webhooks.accept(job)
        state = (await gateway.bus.js.info(gateway.bus.subjects.hooks_stream))["state"]
        assert state["messages"] == 1
