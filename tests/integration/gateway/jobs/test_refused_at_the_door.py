"""What a card or a header says of a request before it is accepted: SSML, and how often it was passed on."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from tests.support.programs import Fleet
from tests.support.web import knows_every_model

pytestmark = pytest.mark.slow

SSML = "<speak>Hello.</speak>"


def upstream(fleet: Fleet, url: str, *more: str) -> None:
    given = [f"url={url}", "health=", "busy_s=5", *more]
    flags = [part for each in given for part in ("--engine-option", f"upstream.qwen.{each}")]
    fleet.worker("w1", "upstream", 8, *flags)


async def refusal(http: ClientSession, url: str, headers: dict[str, str] | None = None, **body: Any) -> dict[str, Any]:
    async with http.post(f"{url}/v1/jobs", json={"model": "qwen", **body}, headers=headers) as response:
        shown: dict[str, Any] = await response.json()
        assert response.status == 422, shown
        return shown


async def test_ssml_for_a_model_that_reads_none_is_refused_before_it_is_accepted(
    fleet: Fleet, http: ClientSession, tmp_path: Path
) -> None:
    _, url = fleet.gateway()
    config = tmp_path / "antiphon.toml"
    config.write_text(f'[engines.upstream.qwen]\nurl = "{url}"\nhealth = ""\nvoices = ["ann"]\n')
    fleet.worker("w1", "upstream", 8, "--config", str(config))
    await knows_every_model(http, url)
    shown = await refusal(http, url, input=SSML)
    assert (shown["path"], shown["detail"]) == ("input", "input: is SSML, which 'ann' of qwen does not read")
    assert (await refusal(http, url, script=[{"text": "Hi."}, {"text": SSML}]))["path"] == "script[1].text"
    async with http.get(f"{url}/v1/voices?model=qwen") as response:
        assert [voice["ssml"] for voice in (await response.json())["voices"]] == [False]
    async with http.get(f"{url}/v1/jobs") as response:
        assert (await response.json())["jobs"] == []


@pytest.mark.parametrize("repeats", ["true", "false"])
async def test_a_stack_that_is_its_own_upstream_refuses_the_request_that_came_round(
    fleet: Fleet, http: ClientSession, repeats: str
) -> None:
    _, url = fleet.gateway()
    upstream(fleet, url, f"repeats={repeats}")
    await knows_every_model(http, url)
    async with asyncio.timeout(20), http.post(f"{url}/v1/audio/speech", json={"model": "qwen", "input": "Hi."}) as said:
        assert said.status == 400, await said.text()
        assert "Antiphon-Hops: 4 stacks passed this request on, the limit is 3" in await said.text()


@pytest.mark.parametrize("value", ["-1", "4", "x", "٣", "9" * 5000, ""])
async def test_a_header_that_is_no_number_of_hops_is_refused(fleet: Fleet, http: ClientSession, value: str) -> None:
    _, url = fleet.gateway()
    upstream(fleet, url)
    await knows_every_model(http, url)
    assert (await refusal(http, url, {"Antiphon-Hops": value}, input="Hi."))["path"] == "Antiphon-Hops"
