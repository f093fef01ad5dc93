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


def test_a_plan_of_a_prompt_is_one_that_music_is_made_of(client: elevenlabs.ElevenLabs) -> None:
    plan = client.music.composition_plan.create(prompt="a waltz, calm piano, no drums", music_length_ms=300_000)
    assert plan.positive_global_styles == ["a waltz", "calm piano"]
    assert plan.negative_global_styles == ["drums"]
    assert [section.duration_ms for section in plan.sections] == [100_000] * 3
    short = client.music.composition_plan.create(prompt="a waltz", music_length_ms=3_000)
    pieces = client.music.compose(composition_plan=short, model_id="tone", output_format=NATIVE)
    assert b"".join(pieces) == tone_pcm(3)


@pytest.mark.parametrize(
    ("prompt", "length_ms"), [("", 3000), (" ", 3000), ("a\x9bb", 3000), ("a waltz", 2999), ("a waltz", 600_001)]
)
def test_a_plan_that_cannot_be_is_refused(client: elevenlabs.ElevenLabs, prompt: str, length_ms: int) -> None:
    with pytest.raises(elevenlabs.UnprocessableEntityError):
        client.music.composition_plan.create(prompt=prompt, music_length_ms=length_ms)


def test_detailed_music_is_its_plan_and_its_audio(client: elevenlabs.ElevenLabs) -> None:
    answer = client.music.compose_detailed(
        prompt="a waltz, no drums", music_length_ms=3000, model_id="tone", output_format=NATIVE
    )
    assert answer.json["composition_plan"]["positive_global_styles"] == ["a waltz"]
    assert answer.json["composition_plan"]["sections"][0]["duration_ms"] == 3000
    assert answer.json["song_metadata"]["title"] == "a waltz, no drums"
    # The package leaves the last boundary where it is.
    assert answer.audio.startswith(tone_pcm(3))
    assert len(answer.audio) - len(tone_pcm(3)) < 40
    assert answer.song_id
    assert answer.filename == f"{answer.song_id}.pcm"
