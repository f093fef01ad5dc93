"""Text to speech by the unmodified `elevenlabs` package, against the real programs."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import aiohttp
import elevenlabs
import httpx
import pytest

from gateway.codecs import Format
from tests.support.codecs import decoded
from tests.support.doors import STEADY, gated, until_state
from tests.support.elevenlabs_client import GEORGE, NATIVE, ours
from tests.support.fleets import Stack
from tests.support.tone import tone_pcm


def test_convert_returns_every_sample(client: elevenlabs.ElevenLabs) -> None:
    pieces = client.text_to_speech.convert(
        GEORGE,
        text="tone",
        model_id="tone",
        output_format=NATIVE,
        seed=4_294_967_295,
        request_options=ours(seconds=1.5),
    )
    assert b"".join(pieces) == tone_pcm(1.5)


def test_response_headers_have_the_request_the_job_and_the_characters(client: elevenlabs.ElevenLabs) -> None:
    with client.text_to_speech.with_raw_response.convert(
        GEORGE, text="four", model_id="tone", output_format=NATIVE
    ) as answer:
        headers = answer.headers
        assert b"".join(answer.data) == tone_pcm(2)
    assert headers["request-id"] == headers["antiphon-job"]
    assert headers["character-cost"] == "4"


async def test_the_first_block_is_there_before_the_second_is_made(
    aclient: elevenlabs.AsyncElevenLabs, tmp_path: Path
) -> None:
    params = gated(tmp_path / "open", 1, seconds=1, block_ms=100)
    pieces = aclient.text_to_speech.stream(
        GEORGE, text="tone", model_id="tone", output_format=NATIVE, request_options=ours(**params)
    )
    async with asyncio.timeout(30):
        body = await anext(pieces)
        assert body == tone_pcm(0.1)[: len(body)]
        (tmp_path / "open").touch()
        async for piece in pieces:
            body += piece
    assert body == tone_pcm(1)


async def test_hanging_up_frees_the_slot(
    aclient: elevenlabs.AsyncElevenLabs, http: aiohttp.ClientSession, stack: Stack
) -> None:
    endless = ours(**STEADY, seconds=600)
    async with aclient.text_to_speech.with_raw_response.stream(
        GEORGE, text="tone", model_id="tone", output_format=NATIVE, request_options=endless
    ) as answer:
        job = answer.headers["antiphon-job"]
        await anext(answer.data)
    shown = await until_state(http, job, "cancelled", within_s=20)
    assert shown["error"]["message"] == "left", "the gateway ended the job, not the worker at its next check"
    async with asyncio.timeout(20):
        while (await (await http.get("/v1/fleet")).json())["workers"][0]["in_flight"]:
            await asyncio.sleep(0.02)


def test_a_model_without_marks_has_no_alignment(client: elevenlabs.ElevenLabs) -> None:
    spoken = client.text_to_speech.convert_with_timestamps(
        GEORGE, text="tone", model_id="tone", output_format=NATIVE, request_options=ours(seconds=0.7)
    )
    assert base64.b64decode(spoken.audio_base_64) == tone_pcm(0.7)
    assert (spoken.alignment, spoken.normalized_alignment) == (None, None)


def test_a_stream_with_timestamps_has_every_sample_line_by_line(client: elevenlabs.ElevenLabs, tmp_path: Path) -> None:
    params = gated(tmp_path / "open", 5, seconds=0.5, **STEADY)
    lines = client.text_to_speech.stream_with_timestamps(
        GEORGE, text="tone", model_id="tone", output_format=NATIVE, request_options=ours(**params)
    )
    pieces = [next(lines)]
    (tmp_path / "open").touch()
    pieces += lines
    assert b"".join(base64.b64decode(each.audio_base_64) for each in pieces) == tone_pcm(0.5)
    assert len(pieces) > 1
    assert {each.alignment for each in pieces} == {None}


def test_speech_has_the_time_of_each_of_its_characters(client: elevenlabs.ElevenLabs) -> None:
    text = "Hello there, my dear world. How are you?"
    spoken = client.text_to_speech.convert_with_timestamps(GEORGE, text=text, output_format="pcm_22050")
    seconds = len(base64.b64decode(spoken.audio_base_64)) / 2 / 22_050
    _check_alignment(spoken.alignment, text, seconds)
    assert spoken.normalized_alignment == spoken.alignment


def test_the_characters_of_a_stream_are_those_of_its_text(client: elevenlabs.ElevenLabs) -> None:
    text = "One sentence, and then another one. The last of all of them comes here."
    pieces = client.text_to_speech.stream_with_timestamps(GEORGE, text=text, output_format="pcm_22050")
    audio = b""
    whole = elevenlabs.CharacterAlignmentResponseModel(
        characters=[], character_start_times_seconds=[], character_end_times_seconds=[]
    )
    for piece in pieces:
        audio += base64.b64decode(piece.audio_base_64)
        if piece.alignment is not None:
            whole.characters.extend(piece.alignment.characters)
            whole.character_start_times_seconds.extend(piece.alignment.character_start_times_seconds)
            whole.character_end_times_seconds.extend(piece.alignment.character_end_times_seconds)
    _check_alignment(whole, text, len(audio) / 2 / 22_050)


def _check_alignment(alignment: elevenlabs.CharacterAlignmentResponseModel | None, text: str, seconds: float) -> None:
    assert alignment is not None
    starts, ends = alignment.character_start_times_seconds, alignment.character_end_times_seconds
    assert "".join(alignment.characters) == text
    assert len(starts) == len(ends) == len(text)
    assert all(start <= end for start, end in zip(starts, ends, strict=True))
    assert all(end <= start + 0.001 for end, start in zip(ends, starts[1:], strict=False))
    assert ends[-1] == pytest.approx(seconds, abs=0.01)
    # The second sentence begins somewhere in the middle, not at either end.
    assert 0.25 * seconds < starts[text.index(". ") + 2] < 0.75 * seconds


async def test_a_later_failure_cuts_the_body_short(aclient: elevenlabs.AsyncElevenLabs) -> None:
    options = ours(seconds=1, fault={"kind": "raise", "at_block": 6}, **STEADY)
    call: dict[str, Any] = {"text": "tone", "model_id": "tone", "output_format": NATIVE, "request_options": options}
    with pytest.raises(httpx.RemoteProtocolError):
        async for _ in aclient.text_to_speech.stream(GEORGE, **call):
            pass
    with pytest.raises(httpx.RemoteProtocolError):
        await aclient.text_to_speech.convert_with_timestamps(GEORGE, **call)


async def test_fields_that_no_engine_has_are_ignored(http: aiohttp.ClientSession) -> None:
    body = {
        "text": "Hello.",
        "model_id": "eleven_multilingual_v2",
        "language_code": "de",
        "voice_settings": {"stability": 0.5, "similarity_boost": 0.75, "style": 0, "use_speaker_boost": True, "new": 1},
        "seed": None,
        "previous_text": "x",
        "next_request_ids": ["a"],
        "pronunciation_dictionary_locators": [{"pronunciation_dictionary_id": "p", "version_id": "v"}],
        "something_of_tomorrow": {},
    }
    async with http.post(f"/v1/text-to-speech/{GEORGE}?output_format={NATIVE}", json=body) as answer:
        assert answer.status == 200, await answer.text()
        shown = await until_state(http, answer.headers["Antiphon-Job"], "done")
    assert (shown["model"], shown["voice"]) == ("speech", "de")


async def test_a_speed_goes_to_the_engine_that_has_one(http: aiohttp.ClientSession) -> None:
    body = {"text": "Hello.", "voice_settings": {"speed": 1.5}}
    async with http.post(f"/v1/text-to-speech/{GEORGE}?output_format={NATIVE}", json=body) as answer:
        shown = await until_state(http, answer.headers["Antiphon-Job"], "done")
    assert shown["engine"]["words_per_minute"] == 262


@pytest.mark.parametrize(
    "name", ["mp3_44100_128", "mp3_22050_32", "pcm_16000", "ulaw_8000", "opus_48000_64", "wav_44100"]
)
def test_audio_has_the_same_length_in_every_format(client: elevenlabs.ElevenLabs, name: str) -> None:
    # mp3_44100_128 is the default.
    output_format = None if name == "mp3_44100_128" else name
    data = b"".join(
        client.text_to_speech.convert(
            GEORGE, text=name, model_id="tone", output_format=output_format, request_options=ours(seconds=1)
        )
    )
    codec, rate_hz = name.split("_")[:2]
    samples, decoded_hz = decoded(data, Format(codec), int(rate_hz), 1)
    assert decoded_hz == int(rate_hz)
    assert len(samples) / decoded_hz == pytest.approx(1, abs=0.08 if codec == "mp3" else 0.001)
