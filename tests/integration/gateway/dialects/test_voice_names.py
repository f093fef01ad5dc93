"""A voice in another spelling, at every HTTP API that takes one."""

import aiohttp
import pytest

from tests.support import fleets

stack = fleets.stack("speech", 4, knows_all=True)
http = fleets.http()

BODIES = (
    ("/v1/jobs?wait=10", {"model": "speech", "input": "Hi.", "voice": "{}"}),
    ("/v1/audio/speech", {"model": "speech", "input": "Hi.", "voice": "{}", "response_format": "pcm"}),
    ("/v1/text-to-speech/{}?output_format=pcm_22050", {"model_id": "speech", "text": "Hi."}),
)


@pytest.mark.parametrize("voice", ["EN-US", "pt_BR", "fr-FR", "de-DE"])
@pytest.mark.parametrize(("path", "body"), BODIES)
async def test_it_is_spoken(http: aiohttp.ClientSession, path: str, body: dict[str, str], voice: str) -> None:
    filled = {name: value.format(voice) for name, value in body.items()}
    async with http.post(path.format(voice), json=filled) as answer:
        assert answer.status in {200, 201, 202}, await answer.text()
        assert await answer.read()


async def test_a_voice_is_shown_by_its_name_in_another_case(http: aiohttp.ClientSession) -> None:
    async with http.get("/v1/voices/DE-de") as answer:
        assert (answer.status, (await answer.json())["voice_id"]) == (200, "de")


@pytest.mark.parametrize(("path", "body"), BODIES)
async def test_an_unknown_one_is_refused_with_near_ones(
    http: aiohttp.ClientSession, path: str, body: dict[str, str]
) -> None:
    filled = {name: value.format("xx-XX") for name, value in body.items()}
    async with http.post(path.format("xx-XX"), json=filled) as answer:
        text = await answer.text()
        assert answer.status in {400, 404, 422}
        assert "GET /v1/voices?model=speech" in text
