"""Two requests of one id at the same moment, at two gateways: whoever of them makes the job, it is told of."""

from typing import Any

import msgspec
import pytest

from bus.errors import Conflict
from bus.settings import BusSettings
from bus.webhook import Webhook
from bus.wire import Client
from tests.support.doors import gateway_here
from tests.support.jobs import tone_job


async def test_one_that_is_refused_takes_back_no_webhook_that_the_other_relied_on(
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
async def test_the_request_that_comes_second_takes_no_webhook_back(
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
            # The other one is refused, and takes back what it laid down, before this one is accepted.
            stands = await gateway.bus.js.direct.next(
                gateway.bus.subjects.hooks_stream, gateway.bus.subjects.all_hooks, 1
            )
            assert stands is not None
            await gateway.hooks.remove(stands[0].seq)
            return await original(*given)

        monkeypatch.setattr(gateway.jobs, "accept", late)
        await gateway.webhooks.accept(job)
        state = (await gateway.bus.js.info(gateway.bus.subjects.hooks_stream))["state"]
        assert state["messages"] == 1
