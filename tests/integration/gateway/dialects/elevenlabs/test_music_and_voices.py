"""Music and lists of voices by the unmodified `elevenlabs` package, against the real programs."""

import aiohttp
import elevenlabs
import pytest
from elevenlabs.core.api_error import ApiError

from tests.support.elevenlabs_client import NATIVE
from tests.support.tone import tone_pcm


def test_voices_are_listed_in_their_shape(client: elevenlabs.ElevenLabs) -> None:
    voices = client.voices.get_all().voices
    german = next(voice for voice in voices if voice.voice_id == "de")
    assert (german.category, (german.labels or {})["language"]) == ("premade", "de")
    assert client.voices.get("de").name == german.name
    with pytest.raises(ApiError) as caught:
        client.voices.get("unknown")
    assert (caught.value.status_code, caught.value.body["detail"]["status"]) == (404, "voice_not_found")


def test_a_search_pages_filters_and_sorts(client: elevenlabs.ElevenLabs) -> None:
    total = len(client.voices.get_all().voices)
    seen: list[str] = []
    token: str | None = None
    while True:
        page = client.voices.search(page_size=50, sort="name", next_page_token=token)
        seen += [str(voice.name) for voice in page.voices]
        assert (page.total_count, len(page.voices) <= 50) == (total, True)
        token = page.next_page_token
        assert page.has_more == (token is not None)
        if not page.has_more:
            break
    assert seen == sorted(seen)
    assert len(seen) == total
    assert [voice.voice_id for voice in client.voices.search(voice_ids=["de", "fr-fr"], sort="name").voices] == [
        "fr-fr",
        "de",
    ]
    assert {(voice.labels or {})["language"][:2] for voice in client.voices.search(language="en").voices} == {"en"}
    with pytest.raises(elevenlabs.UnprocessableEntityError):
        client.voices.search(page_size=101)


async def test_our_own_list_of_voices_is_the_same_list(http: aiohttp.ClientSession) -> None:
    async with http.get("/v1/voices?model=speech") as answer:
        voices = (await answer.json())["voices"]
    assert all(voice["id"] == voice["voice_id"] and voice["model"] == "speech" for voice in voices)


async def test_music_has_the_requested_length(aclient: elevenlabs.AsyncElevenLabs) -> None:
    # True of any model whose engine has the param `seconds`.
    for length_ms in (3000, 3500):
        pieces = aclient.music.compose(
            prompt="a calm piano", music_length_ms=length_ms, model_id="tone", output_format=NATIVE
        )
        assert b"".join([piece async for piece in pieces]) == tone_pcm(length_ms / 1000)


async def test_a_composition_plan_is_as_long_as_its_parts(
    aclient: elevenlabs.AsyncElevenLabs, http: aiohttp.ClientSession
) -> None:
    plan = elevenlabs.MusicPrompt(
        positive_global_styles=["calm", "piano"],
        negative_global_styles=["drums"],
        sections=[
            elevenlabs.SongSection(
                section_name=name,
                positive_local_styles=["calm", "slow"],
                negative_local_styles=[],
                duration_ms=3000,
                lines=["la la"],
            )
            for name in ("Verse", "Chorus")
        ],
    )
    async with aclient.music.with_raw_response.stream(
        composition_plan=plan, model_id="tone", output_format=NATIVE
    ) as answer:
        assert b"".join([piece async for piece in answer.data]) == tone_pcm(6)
        assert answer.headers["song-id"] == answer.headers["antiphon-job"]
