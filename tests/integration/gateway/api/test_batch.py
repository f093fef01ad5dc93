"""`POST /v1/jobs:batch`: an answer to each line, in order, whatever the answers to the others."""

import asyncio
import io
import json
import time
from typing import Any

import aiohttp

from bus.access.keys import Keys, Limits
from bus.jobs.client import open_bus
from gateway.api.batch import MAX_LINES
from tests.support import fleets
from tests.support.doors import tone, until_state
from tests.support.fleets import Stack

BATCH = "/v1/jobs:batch"

stack = fleets.stack()
http = fleets.http()


def line(**fields: Any) -> str:
    return json.dumps(tone(**{"params": {"seconds": 0.1}, **fields}))


async def submit_lines(http: aiohttp.ClientSession, lines: list[str], **headers: str) -> list[dict[str, Any]]:
    async with asyncio.timeout(120), http.post(BATCH, data="\n".join(lines), headers=headers) as answer:
        assert (answer.status, answer.content_type) == (200, "application/x-ndjson"), await answer.text()
        return [json.loads(each) async for each in answer.content]


async def test_a_bad_line_is_an_error_with_its_number_and_stops_no_other(http: aiohttp.ClientSession) -> None:
    first = line(id="first")
    answers = await submit_lines(
        http,
        [first, "{", "", line(voice="nobody"), first, line(id="first", seed=1), line(lane="standard"), '{"inptu":"x"}'],
    )
    assert [(each["line"], each["status"]) for each in answers] == [
        (1, 202),
        (2, 400),
        (4, 422),
        (5, 200),
        (6, 409),
        (7, 202),
        (8, 422),
    ]
    errors = {each["line"]: each["error"] for each in answers if "error" in each}
    assert {number: error["code"] for number, error in errors.items()} == {
        2: "malformed",
        4: "invalid",
        6: "conflict",
        8: "invalid",
    }
    assert errors[4]["path"] == "voice"
    assert "did you mean 'input'?" in errors[8]["detail"]
    for each in answers:
        if "id" in each:
            shown = await until_state(http, each["id"], "done")
            assert shown["lane"] == ("standard" if each["line"] == 7 else "batch")
            assert each["links"]["self"] == f"/v1/jobs/{each['id']}"


async def test_a_thousand_lines_are_accepted_and_the_same_key_answers_the_same_jobs(
    http: aiohttp.ClientSession,
) -> None:
    lines = [line(input=str(number)) for number in range(MAX_LINES)]
    headers = {"Idempotency-Key": "one batch"}
    first, again = await submit_lines(http, lines, **headers), await submit_lines(http, lines, **headers)
    assert [each["line"] for each in first] == list(range(1, MAX_LINES + 1))
    assert {each["status"] for each in first} == {202}
    assert {each["status"] for each in again} == {200}
    assert [each["id"] for each in again] == [each["id"] for each in first]
    assert len({each["id"] for each in first}) == MAX_LINES


async def test_too_many_lines_none_and_too_many_bytes_are_refused_as_a_whole(http: aiohttp.ClientSession) -> None:
    async with http.get("/v1/jobs?limit=1") as answer:
        newest = (await answer.json())["jobs"]
    for body, status, code in (
        ("\n".join([line()] * (MAX_LINES + 1)), 422, "invalid"),
        ("\n \n", 422, "invalid"),
        (io.BytesIO(b"x" * ((16 << 20) + 1)), 413, "too_large"),
    ):
        async with http.post(BATCH, data=body) as answer:
            assert (answer.status, (await answer.json())["code"]) == (status, code)
    async with http.get("/v1/jobs?limit=1") as answer:
        assert [each["id"] for each in (await answer.json())["jobs"]] == [each["id"] for each in newest]


async def limited(http: aiohttp.ClientSession, stack: Stack, limits: Limits) -> dict[str, str]:
    """Headers of a key with these limits, once the gateway knows the key."""
    async with open_bus(stack.settings, "test") as bus:
        _, text = await Keys(bus).create("acme", limits)
    headers = {"xi-api-key": text}
    async with asyncio.timeout(30):
        while (await http.get("/v1/jobs", headers=headers)).status != 200:
            await asyncio.sleep(0.02)
    return headers


async def test_lines_are_answered_while_others_wait_for_their_turn(http: aiohttp.ClientSession, stack: Stack) -> None:
    """Five at once; the sixth would be accepted a day later."""
    headers = await limited(http, stack, Limits(requests_per_s=1e-5, burst=5))
    lines = "\n".join(line(input=str(number)) for number in range(20))
    async with asyncio.timeout(30), http.post(BATCH, data=lines, headers=headers) as answer:
        came = [json.loads(await answer.content.readline()) for _ in range(5)]
        assert [(each["line"], each["status"]) for each in came] == [(number, 202) for number in range(1, 6)]
        answer.close()


async def test_lines_beyond_the_limit_wait_for_their_turn_and_no_longer(
    http: aiohttp.ClientSession, stack: Stack
) -> None:
    """Five at once, and fifteen at twenty per second."""
    headers = await limited(http, stack, Limits(requests_per_s=20, burst=5))
    began = time.monotonic()
    came = await submit_lines(http, [line(input=str(number)) for number in range(20)], **headers)
    took_s = time.monotonic() - began
    assert {each["status"] for each in came} == {202}
    assert len(came) == 20
    # Each waiting for the one before to be answered, or for a whole second, would be fifteen seconds.
    assert 0.7 < took_s < 10.0
