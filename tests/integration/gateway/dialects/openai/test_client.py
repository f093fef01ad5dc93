"""OpenAI's own Python client, unmodified, against the real programs."""

import asyncio
import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import openai
import pytest
from openai import AsyncOpenAI, OpenAI, Stream

from tests.support import fleets
from tests.support.doors import STEADY, gated, wav_pcm, wav_sizes
from tests.support.fleets import Stack
from tests.support.openai_client import ended, opened, plays
from tests.support.tone import tone_pcm

pytestmark = pytest.mark.slow

FIRST_BLOCK_BYTES = 4800

stack = fleets.stack("tone,speech", 2, "--max-fails", "0", knows_all=True)


@pytest.fixture
def client(stack: Stack) -> Iterator[OpenAI]:
    with opened(stack.url) as client:
        yield client


def test_a_response_has_every_sample(client: OpenAI) -> None:
    answer = client.audio.speech.create(**plays(seconds=1.3), response_format="pcm")
    assert answer.content == tone_pcm(1.3)
    assert answer.response.headers["content-type"] == "audio/pcm;rate=24000;channels=1"
    assert answer.response.headers["x-request-id"] == answer.response.headers["antiphon-job"]


async def test_the_async_client_receives_the_first_block_before_the_second_is_made(
    stack: Stack, tmp_path: Path
) -> None:
    arguments = plays(**gated(tmp_path / "open", 1, seconds=1, block_ms=100))
    async with AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="x", max_retries=0) as client, asyncio.timeout(30):
        assert (await client.audio.speech.create(**plays(seconds=0.4), response_format="pcm")).content == tone_pcm(0.4)
        streaming = client.audio.speech.with_streaming_response
        async with streaming.create(**arguments, response_format="pcm") as answer:
            pieces = answer.iter_bytes(FIRST_BLOCK_BYTES)
            assert await anext(pieces) == tone_pcm(0.1)
            (tmp_path / "open").touch()
            assert b"".join([piece async for piece in pieces]) == tone_pcm(1)[FIRST_BLOCK_BYTES:]


def test_the_sync_client_receives_the_first_block_before_the_second_is_made(client: OpenAI, tmp_path: Path) -> None:
    arguments = plays(**gated(tmp_path / "open", 1, seconds=1, block_ms=100))
    with client.audio.speech.with_streaming_response.create(**arguments, response_format="pcm") as answer:
        pieces = answer.iter_bytes(FIRST_BLOCK_BYTES)
        assert next(pieces) == tone_pcm(0.1)
        (tmp_path / "open").touch()
        assert b"".join(pieces) == tone_pcm(1)[FIRST_BLOCK_BYTES:]


def events(client: OpenAI, arguments: dict[str, Any], **more: Any) -> Stream[dict[str, Any]]:
    """The response, read by the client's own reader of server-sent events."""
    extra = arguments.pop("extra_body")
    body = {**arguments, **extra, "stream_format": "sse", "response_format": "pcm", **more}
    answer: Stream[dict[str, Any]] = client.post(
        "/audio/speech", body=body, cast_to=dict[str, Any], stream=True, stream_cls=Stream[dict[str, Any]]
    )
    return answer


def test_each_delta_event_is_a_block_as_it_is_made_and_the_last_event_has_the_usage(
    client: OpenAI, tmp_path: Path
) -> None:
    with events(client, plays(**gated(tmp_path / "open", 1, seconds=1, block_ms=100))) as stream:
        assert stream.response.headers["content-type"] == "text/event-stream; charset=utf-8"
        job = stream.response.headers["antiphon-job"]
        first = next(stream)
        assert (first["type"], b64decode(first["audio"])) == ("speech.audio.delta", tone_pcm(0.1))
        (tmp_path / "open").touch()
        *deltas, done = list(stream)
    assert {each["type"] for each in deltas} == {"speech.audio.delta"}
    assert b"".join(b64decode(each["audio"]) for each in [first, *deltas]) == tone_pcm(1)
    assert done["type"] == "speech.audio.done"
    tokens = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    assert done["usage"] == {**tokens, "input_characters": 4, "output_seconds": 1.0}
    assert ended(client, job) == "done"


def test_events_have_no_names_for_openais_packages_whose_older_versions_would_wrap_them(client: OpenAI) -> None:
    streaming = client.audio.speech.with_streaming_response
    with streaming.create(**plays(seconds=0.1), response_format="pcm", stream_format="sse") as answer:
        lines = list(answer.iter_lines())
    assert not [line for line in lines if line.startswith("event:")]
    assert [json.loads(line.removeprefix("data: "))["type"] for line in lines if line] == [
        "speech.audio.delta",
        "speech.audio.done",
    ]


async def test_events_have_a_line_with_their_name_as_vllm_omni_writes_them(stack: Stack) -> None:
    body = {"model": "tone", "input": "x", "params": {"seconds": 0.1}, "response_format": "pcm", "stream_format": "sse"}
    async with fleets.asking(stack.url) as http, http.post("/v1/audio/speech", json=body) as answer:
        lines = (await answer.text()).splitlines()
    assert [line for line in lines if line.startswith("event:")] == [
        "event: speech.audio.delta",
        "event: speech.audio.done",
    ]
    data = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert [each["type"] for each in data] == ["speech.audio.delta", "speech.audio.done"]
    assert data[0]["response_format"] == "pcm"


def test_a_failure_after_the_first_event_is_an_event_and_the_client_raises_it(client: OpenAI) -> None:
    arguments = plays(seconds=2, fault={"kind": "raise", "at_block": 5}, **STEADY)
    received = b""
    with events(client, arguments) as stream, pytest.raises(openai.APIError, match="failed") as raised:
        for event in stream:
            assert event["type"] == "speech.audio.delta"
            received += b64decode(event["audio"])
    assert received == tone_pcm(0.25)
    assert (raised.value.code, raised.value.type) == ("engine_failed", "server_error")


def test_a_failure_before_the_first_event_has_a_status_of_its_own(client: OpenAI) -> None:
    arguments = plays(fault={"kind": "raise", "at_block": 0})
    with pytest.raises(openai.InternalServerError) as raised:
        events(client, arguments)
    assert (raised.value.status_code, raised.value.code) == (502, "engine_failed")
    assert raised.value.request_id == raised.value.response.headers["antiphon-job"]


FORMATS = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm;rate=24000;channels=1",
}


@pytest.mark.parametrize("codec", [None, *FORMATS])
def test_every_format_of_openais_is_a_file_of_the_right_length_and_mp3_is_the_default(
    client: OpenAI, codec: Any, tmp_path: Path
) -> None:
    answer = client.audio.speech.create(**plays(seconds=1), response_format=codec or openai.omit)
    codec = codec or "mp3"
    assert answer.response.headers["content-type"] == FORMATS[codec]
    path = tmp_path / f"speech.{codec}"
    answer.write_to_file(path)
    assert decoded_s(path, codec) == pytest.approx(1.0, abs=0.1)


def decoded_s(path: Path, codec: str) -> float:
    """Seconds of audio in a file, decoded."""
    if codec == "pcm":
        return len(path.read_bytes()) / 48_000
    with av.open(str(path)) as container:
        return sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))


def test_pcm_has_openais_rate_for_openais_models_and_else_the_models_own(client: OpenAI) -> None:
    for model, rate_hz in (("tts-1", 24_000), ("speech", 22_050)):
        spoken = client.audio.speech.create(model=model, voice="alloy", input="One rate.", response_format="pcm")
        job = client.get(f"/jobs/{spoken.response.headers['antiphon-job']}", cast_to=dict[str, Any])
        assert spoken.response.headers["antiphon-media"] == f"audio/L16;rate={rate_hz};channels=1"
        assert len(spoken.content) / 2 / rate_hz == pytest.approx(job["frames"] / 22_050, abs=0.002)


def test_a_sample_rate_may_be_requested_of_any_model_and_format(client: OpenAI) -> None:
    for model, codec in (("tts-1", "pcm"), ("speech", "pcm"), ("speech", "wav")):
        spoken = client.audio.speech.create(
            model=model, voice="alloy", input="One rate.", response_format=codec, extra_body={"sample_rate": 16_000}
        )
        job = client.get(f"/jobs/{spoken.response.headers['antiphon-job']}", cast_to=dict[str, Any])
        assert spoken.response.headers["antiphon-media"] == "audio/L16;rate=16000;channels=1"
        assert len(spoken.content) / 2 / 16_000 == pytest.approx(job["frames"] / 22_050, abs=0.01)
    assert spoken.response.headers["content-type"] == "audio/wav"


@pytest.mark.parametrize(("codec", "rate_hz"), [("pcm", 0), ("pcm", 3_999), ("pcm", 192_001), ("mp3", 24_001)])
def test_a_rate_that_cannot_be_made_is_refused_by_name(client: OpenAI, codec: Any, rate_hz: int) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.audio.speech.create(
            model="tone", voice="", input="x", response_format=codec, extra_body={"sample_rate": rate_hz}
        )
    assert raised.value.param == "sample_rate"


def test_params_of_other_servers_are_dropped_and_named_in_a_header(client: OpenAI) -> None:
    # SillyTavern's provider for TTS WebUI sends these.
    foreign = {"desired_length": 80, "max_length": 200, "halve_first_chunk": True, "cache_voice": False, "seed": -1}
    arguments = plays(seconds=0.3)
    arguments["extra_body"]["params"] |= foreign | {"a\r\nb: c": 1, "é": 2}
    answer = client.audio.speech.create(**arguments, response_format="pcm")
    assert answer.content == tone_pcm(0.3)
    named = answer.response.headers["antiphon-ignored"].split(", ")
    assert named == [*(f"params.{name}" for name in foreign), "params.?"]


def test_of_many_ignored_params_the_header_names_a_few(client: OpenAI) -> None:
    arguments = plays(seconds=0.3)
    arguments["extra_body"]["params"] |= {f"p{number}": number for number in range(500)}
    header = client.audio.speech.create(**arguments, response_format="pcm").response.headers["antiphon-ignored"]
    assert header.endswith("params.p19, and 480 more")


def test_params_that_the_model_has_are_checked(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="seconds"):
        client.audio.speech.create(**plays(seconds=-1))
    assert "antiphon-ignored" not in client.audio.speech.create(**plays(seconds=0.3)).response.headers


async def test_the_list_of_models_of_open_webui(stack: Stack) -> None:
    async with fleets.asking(stack.url) as http, http.get("/v1/audio/models") as answer:
        assert await answer.json() == {"models": [{"id": name, "name": name} for name in ("speech", "tone")]}


def test_audio_is_played_at_the_speed_if_the_engine_has_none(client: OpenAI) -> None:
    played = client.audio.speech.create(**plays(seconds=2), speed=2.0, response_format="pcm").content
    assert len(played) / 48_000 == pytest.approx(1.0, abs=0.1)


def test_the_speed_is_the_engines_own_if_it_has_one(client: OpenAI) -> None:
    spoken = client.audio.speech.create(model="tts-1", voice="nova", input="Hello there.", speed=2.0)
    job = client.get(f"/jobs/{spoken.response.headers['antiphon-job']}", cast_to=dict[str, Any])
    assert job["engine"]["words_per_minute"] == 350


def test_without_streaming_the_response_has_a_length_and_a_wav_its_sizes(client: OpenAI) -> None:
    arguments = plays(seconds=1.5)
    arguments["extra_body"]["stream"] = False
    answer = client.audio.speech.create(**arguments, response_format="wav")
    assert answer.response.headers["content-length"] == str(len(answer.content))
    assert wav_sizes(answer.content) == (len(answer.content) - 8, 72_000)
    assert wav_pcm(answer.content) == tone_pcm(1.5)


def test_without_streaming_a_late_failure_has_a_status(client: OpenAI) -> None:
    arguments = plays(seconds=1, fault={"kind": "raise", "at_block": 8})
    arguments["extra_body"]["stream"] = False
    with pytest.raises(openai.InternalServerError) as raised:
        client.audio.speech.create(**arguments)
    assert raised.value.code == "engine_failed"


def test_audio_that_is_too_long_to_hold_back_is_streamed_after_all(client: OpenAI) -> None:
    arguments = plays(seconds=400, block_ms=1000)
    arguments["extra_body"]["stream"] = False
    answer = client.audio.speech.create(**arguments, response_format="pcm")
    assert "content-length" not in answer.response.headers
    assert answer.content == tone_pcm(400)


def test_events_have_the_marks_of_words_if_the_engine_makes_them(client: OpenAI) -> None:
    text = "Good morning to you."
    with events(client, {"model": "speech", "voice": "en-gb", "input": text, "extra_body": {}}) as stream:
        marks = [mark for event in stream for mark in event.get("marks", [])]
    words = [mark for mark in marks if mark["kind"] == "word"]
    assert [mark["text"] for mark in words] == ["Good", "morning", "to", "you"]
    times = [mark["at_s"] for mark in words]
    assert times == sorted(times)
    assert times[0] < 0.3 < times[-1] < 3


def test_models_are_listed_and_looked_up_by_our_names_and_by_theirs(client: OpenAI) -> None:
    assert {each.id for each in client.models.list()} == {"tone", "speech"}
    ours, theirs = client.models.retrieve("tone"), client.models.retrieve("tts-1")
    assert (ours.id, ours.object, ours.owned_by) == ("tone", "model", "antiphon")
    assert (theirs.id, theirs.model_extra and theirs.model_extra["root"]) == ("tts-1", "speech")
    with pytest.raises(openai.NotFoundError) as raised:
        client.models.retrieve("unknown")
    assert (raised.value.param, raised.value.code) == ("model", "unknown_model")


def test_voices_are_those_of_the_model_and_each_can_be_used(client: OpenAI) -> None:
    listed = client.get("/audio/voices", cast_to=dict[str, Any])
    assert listed["uploaded_voices"] == []
    assert {"en-gb", "de"} <= {each["id"] for each in listed["voices"]}
    assert all(each["name"] for each in listed["voices"])
    assert client.get("/audio/voices?model=tone", cast_to=dict[str, Any])["voices"] == []
    spoken = client.audio.speech.create(model="tts-1", voice={"id": "de"}, input="Hallo.", response_format="pcm")
    assert len(spoken.content) > 10_000
