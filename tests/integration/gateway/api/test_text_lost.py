"""A job that lost words, and one that lost none, over HTTP."""

import aiohttp

from tests.support import fleets
from tests.support.doors import SPEECH, until_state

stack = fleets.stack("speech,tone", 2)
http = fleets.http()


async def test_a_job_that_lost_a_word_fails_and_names_it(http: aiohttp.ClientSession) -> None:
    body = {"model": "speech", "input": "ᏣᎳᎩ"}
    async with http.post("/v1/jobs", json=body) as answer:
        job = (await answer.json())["id"]
    error = (await until_state(http, job, "failed"))["error"]
    assert (error["code"], error["path"], error["retryable"]) == ("text_lost", "input", False)
    assert "cannot speak 'ᏣᎳᎩ' at 0" in error["message"]


async def test_where_nothing_was_sent_yet_the_request_has_the_status(http: aiohttp.ClientSession) -> None:
    body = {"model": "speech", "input": "ᏣᎳᎩ", "response_format": "pcm"}
    async with http.post(SPEECH, json=body) as answer:
        error = (await answer.json())["error"]
        assert (answer.status, error["code"], error["param"]) == (400, "text_lost", "input")


async def test_a_job_that_is_done_says_that_all_was_spoken_and_what_was_not(http: aiohttp.ClientSession) -> None:
    async with http.post("/v1/jobs", json={"model": "speech", "input": "Hello ⟴ world."}) as answer:
        job = (await answer.json())["id"]
    shown = await until_state(http, job, "done")
    assert shown["completeness"] == "words"
    assert shown["skipped"] == [{"start": 6, "length": 1}]
    async with http.post("/v1/jobs", json={"model": "tone", "input": "x", "params": {"seconds": 0.1}}) as answer:
        job = (await answer.json())["id"]
    assert not {"completeness", "skipped"} & set(await until_state(http, job, "done"))


async def test_the_card_says_what_an_engine_knows(http: aiohttp.ClientSession) -> None:
    async with http.get("/v1/models") as answer:
        cards = {model["id"]: model for model in (await answer.json())["data"]}
    assert cards["speech"]["completeness"] == "words"
    assert cards["tone"].get("completeness", "none") == "none"
