"""Errors as OpenAI's own Python client reports them: its exceptions, retries and timeouts."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from bus.access.keys import PREFIX, Keys, Limits
from bus.jobs.client import open_bus
from tests.support import fleets
from tests.support.doors import STEADY, gated
from tests.support.fleets import Stack
from tests.support.openai_client import ended, opened, plays
from tests.support.programs import Fleet
from tests.support.tone import tone_pcm

stack = fleets.stack("tone,speech", 2, "--max-fails", "0", knows_all=True)


@pytest.fixture
def client(stack: Stack) -> Iterator[OpenAI]:
    with opened(stack.url) as client:
        yield client


REFUSALS: list[tuple[dict[str, Any], type[openai.APIStatusError], str, str]] = [
    ({"model": "unknown"}, openai.NotFoundError, "model", "'unknown'"),
    ({"input": ""}, openai.BadRequestError, "input", "empty"),
    ({"input": "a" * 100_001}, openai.BadRequestError, "input", "100000"),
    ({"voice": "bob"}, openai.BadRequestError, "voice", "'bob'"),
    ({"voice": {"id": "bob"}}, openai.BadRequestError, "voice", "'bob'"),
    ({"response_format": "wma"}, openai.BadRequestError, "response_format", "wav"),
    ({"stream_format": "ws"}, openai.BadRequestError, "stream_format", "audio, sse"),
    ({"speed": 4.5}, openai.BadRequestError, "speed", "0.25 to 4"),
]


@pytest.mark.parametrize(("wrong", "kind", "param", "word"), REFUSALS, ids=range(len(REFUSALS)))
def test_every_refusal_is_the_exception_that_the_client_has_for_it(
    client: OpenAI, wrong: dict[str, Any], kind: type[openai.APIStatusError], param: str, word: str
) -> None:
    with pytest.raises(kind) as raised:
        client.audio.speech.create(**{**plays(seconds=0.1), **wrong})
    error = raised.value
    assert (type(error), error.param, error.type) == (kind, param, "invalid_request_error")
    assert isinstance(error.code, str)
    assert word in str(error)
    assert error.request_id


def test_an_idempotency_key_of_another_request_is_a_conflict_and_is_not_retried(stack: Stack) -> None:
    key = {"Idempotency-Key": "one"}
    with opened(stack.url, max_retries=2) as client:
        client.audio.speech.create(**plays(seconds=0.1), extra_headers=key)
        with pytest.raises(openai.ConflictError) as raised:
            client.audio.speech.create(**plays(seconds=0.2), extra_headers=key)
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert raised.value.response.request.headers["x-stainless-retry-count"] == "0"


def test_an_invalid_key_is_an_authentication_error(stack: Stack) -> None:
    with opened(stack.url, api_key=f"{PREFIX}0123456789ab_nothing") as client:
        with pytest.raises(openai.AuthenticationError) as raised:
            client.audio.speech.create(**plays(seconds=0.1))
        assert (raised.value.type, raised.value.code) == ("authentication_error", "unauthorized")
        with pytest.raises(openai.AuthenticationError):
            client.models.list()


async def test_over_the_limit_the_client_waits_for_retry_after_and_retries(stack: Stack) -> None:
    async with open_bus(stack.settings, "test") as bus:
        _, key = await Keys(bus).create("acme", Limits(requests_per_s=1.0, burst=1))
    arguments = plays(seconds=0.1)
    async with AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=key, max_retries=0) as client:
        await known(client)
        error = await refused(client, arguments)
        assert (error.type, error.code) == ("rate_limit_error", "too_many")
        assert 1 <= int(error.response.headers["retry-after"]) <= 2
        tries, patient = "", client.with_options(max_retries=1)
        async with asyncio.timeout(30):
            while tries != "1":  # on a slow machine the request may come so late that it is served at once
                sound = await patient.audio.speech.create(**arguments, response_format="pcm")
                assert sound.content == tone_pcm(0.1)
                tries = sound.response.request.headers["x-stainless-retry-count"]


async def refused(client: AsyncOpenAI, arguments: dict[str, Any]) -> openai.RateLimitError:
    """The error of one of two simultaneous requests; tried again if the second came so late that it was served."""
    async with asyncio.timeout(30):
        while True:
            both = (client.audio.speech.create(**arguments) for _ in range(2))
            for outcome in await asyncio.gather(*both, return_exceptions=True):
                if isinstance(outcome, openai.RateLimitError):
                    return outcome
                assert not isinstance(outcome, BaseException), outcome


async def known(client: AsyncOpenAI) -> None:
    """Wait until the gateway has read the client's key."""
    async with asyncio.timeout(20):
        while True:
            try:
                await client.models.list()
            except openai.AuthenticationError:
                await asyncio.sleep(0.02)
            else:
                return


def test_a_request_is_not_retried_after_its_job_was_cancelled(stack: Stack, tmp_path: Path) -> None:
    worker, url = stack.worker, stack.url
    started = len(worker.events("job.started"))

    async def cancelled() -> openai.APIStatusError:
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=2) as client:
            arguments = plays(**gated(tmp_path / "never", 0))
            pending = asyncio.create_task(client.audio.speech.create(**arguments))
            begun = await asyncio.to_thread(worker.wait_for, "job.started", started + 1)
            await client.delete(f"/jobs/{begun['job']}", cast_to=dict[str, Any])
            with pytest.raises(openai.ConflictError) as raised:
                await pending
            return raised.value

    error = asyncio.run(cancelled())
    assert (error.code, error.response.request.headers["x-stainless-retry-count"]) == ("cancelled", "0")


def test_a_client_that_times_out_frees_the_slot(stack: Stack, tmp_path: Path) -> None:
    worker, url = stack.worker, stack.url
    started = len(worker.events("job.started"))
    for patience_s in (
        0.3,
        1.0,
        3.0,
        10.0,
    ):  # on a slow machine it may time out before its job starts, which then never starts
        with opened(url, timeout=patience_s) as client, pytest.raises(openai.APITimeoutError):
            client.audio.speech.create(**plays(**gated(tmp_path / "never", 0)))
        if begun := worker.events("job.started")[started:]:
            break
    with opened(url) as client:
        assert begun
        assert {ended(client, each["job"]) for each in begun} == {"cancelled"}


def test_a_client_that_hangs_up_in_mid_stream_frees_the_slot(client: OpenAI) -> None:
    arguments = plays(seconds=600, **STEADY)
    with client.audio.speech.with_streaming_response.create(**arguments, response_format="pcm") as answer:
        assert len(next(answer.iter_bytes(100))) == 100
        job = answer.headers["antiphon-job"]
    assert ended(client, job) == "cancelled"


@pytest.mark.slow
def test_without_a_worker_the_client_retries_after_the_stated_time_until_one_is_there(fleet: Fleet) -> None:
    gateway, url = fleet.gateway()

    async def retried() -> bytes:
        before, began_at = len(gateway.events("http.refused")), time.monotonic()
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=8) as client:
            pending = asyncio.create_task(client.audio.speech.create(**plays(seconds=0.2), response_format="pcm"))
            refused = await asyncio.to_thread(gateway.wait_for, "http.refused", before + 1)
            assert (refused["status"], refused["code"], len(refused["request"])) == (503, "no_worker", 32)
            fleet.worker(wait=False)
            sound = (await pending).content
            assert time.monotonic() - began_at > 1.9  # without Retry-After it would have retried within 0.5 s
            return sound

    with opened(url) as hasty, pytest.raises(openai.InternalServerError) as raised:
        hasty.audio.speech.create(**plays(seconds=0.2))
    assert (raised.value.code, raised.value.response.headers["retry-after"]) == ("no_worker", "2")
    assert asyncio.run(retried()) == tone_pcm(0.2)
