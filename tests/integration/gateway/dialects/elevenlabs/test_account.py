"""ElevenLabs' account and list of models, by the unmodified `elevenlabs` package."""

import asyncio
from collections.abc import Iterator

import aiohttp
import elevenlabs
import httpx
import pytest
from elevenlabs.core.api_error import ApiError

from bus.access.keys import Keys, Limits
from bus.jobs.client import open_bus
from tests.support.doors import gateway_here
from tests.support.fleets import Stack
from tests.support.waiting import eventually


@pytest.fixture
def keyed(stack: Stack, http: aiohttp.ClientSession) -> Iterator[elevenlabs.ElevenLabs]:
    """A client with a key that is none of ours, as every client of theirs has one."""
    with httpx.Client(timeout=20) as transport:
        yield elevenlabs.ElevenLabs(base_url=stack.url, api_key="none", httpx_client=transport)


def test_their_clients_get_their_list_of_models(keyed: elevenlabs.ElevenLabs) -> None:
    models = {model.model_id: model for model in keyed.models.list()}
    assert set(models) == {"speech", "tone"}
    speech = models["speech"]
    assert (speech.can_do_text_to_speech, models["tone"].can_do_text_to_speech) == (True, False)
    assert {"en", "de", "fr"} < {language.language_id for language in speech.languages or []}
    assert next(each.name for each in speech.languages or [] if each.language_id == "de") == "German"
    assert speech.maximum_text_length_per_request == 200_000


async def test_an_empty_key_is_theirs_too_and_without_the_header_the_list_is_openais(
    http: aiohttp.ClientSession,
) -> None:
    async with http.get("/v1/models", headers={"xi-api-key": ""}) as answer:
        assert [each["model_id"] for each in await answer.json()] == ["speech", "tone"]
    async with http.get("/v1/models") as answer:
        assert (await answer.json())["object"] == "list"


def test_a_program_that_looks_before_it_speaks_finds_an_account(keyed: elevenlabs.ElevenLabs) -> None:
    quota = keyed.user.subscription.get()
    assert (quota.character_count, quota.character_limit, quota.status) == (0, 2_147_483_647, "active")
    known = keyed.user.get()
    assert (known.workspace_id, known.subscription.tier) == ("public", "antiphon")
    assert keyed.voices.settings.get_default().speed == 1.0
    assert keyed.voices.settings.get("de").speed == 1.0
    assert keyed.history.list().history == []
    with pytest.raises(ApiError) as raised:
        keyed.voices.settings.get("unknown")
    assert (raised.value.status_code, raised.value.body["detail"]["status"]) == (404, "voice_not_found")


def test_a_voice_says_that_it_is_not_trained(keyed: elevenlabs.ElevenLabs) -> None:
    tuning = keyed.voices.get("de").fine_tuning
    assert tuning is not None
    assert (tuning.state, tuning.is_allowed_to_fine_tune) == ({}, False)


async def test_the_quota_is_the_keys_audio_of_the_day(stack: Stack, http: aiohttp.ClientSession) -> None:
    async with open_bus(stack.settings, "test") as bus:
        _, text = await Keys(bus).create("acme", Limits(audio_s_per_day=10))
    headers = {"xi-api-key": text}

    async def quota() -> tuple[int, int]:
        async with http.get("/v1/user/subscription", headers=headers) as answer:
            shown = await answer.json()
        return (shown["character_count"], shown["character_limit"]) if answer.status == 200 else (-1, -1)

    async def until(used: int) -> None:
        while await quota() != (used, 10_000):  # the key may not be known yet, nor the charge be made
            continue

    async with asyncio.timeout(30):
        await until(0)
        body = {"model": "tone", "input": "x", "params": {"seconds": 2.5}, "response_format": "pcm"}
        async with http.post("/v1/audio/speech", json=body, headers=headers) as answer:
            assert answer.status == 200
            await answer.read()
        await until(2500)


async def test_lists_may_be_open_where_a_key_is_needed(stack: Stack) -> None:
    lists = ("/v1/models", "/v1/voices", "/v2/voices", "/v1/audio/models", "/v1/audio/voices")
    for opens in (False, True):
        async with gateway_here(stack.settings, anonymous=False, open_lists=opens) as (gateway, http):
            await eventually(lambda gateway=gateway: gateway.fleet.card("speech"))
            for path in lists:
                async with http.get(path) as answer:
                    assert answer.status == (200 if opens else 401), path
            for path in ("/v1/jobs", "/v1/user", "/v1/fleet"):
                async with http.get(path) as answer:
                    assert answer.status == 401, path
