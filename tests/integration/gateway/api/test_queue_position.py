"""A job's place in its queue: shown where it is known, and no error where it is not."""

from typing import Any

import pytest

from bus.errors import Unreachable
from bus.jobs.submit import submit
from bus.settings import BusSettings
from tests.support.doors import gateway_here
from tests.support.jobs import tone_job


async def test_a_job_is_shown_without_its_place_while_the_bus_cannot_answer(
    bus_settings: BusSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway_here(bus_settings) as (gateway, http):
        accepted = await submit(gateway.bus, tone_job())
        path, ask = f"/v1/jobs/{accepted.birth.job.id}", gateway.bus.js.api

        async def electing(name: str, *body: Any) -> Any:
            if name.startswith("CONSUMER.INFO"):
                raise Unreachable(f"no answer on {name}")
            return await ask(name, *body)

        async with http.get(path) as answer:
            known = await answer.json()
        monkeypatch.setattr(gateway.bus.js, "api", electing)
        async with http.get(path) as answer:
            assert answer.status == 200, await answer.text()
            unknown = await answer.json()
    assert known.pop("position") == 0
    assert unknown == known
