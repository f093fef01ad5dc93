"""A script through the whole stack: one job, one log, one sound, whichever API it came by.

`tests/acceptance/test_takeover_of_real_engines.py` kills its worker.
"""

from typing import Any

import aiohttp
import nats
import pytest

from bus import wire
from bus.script import PAUSE_S
from tests.support import fleets
from tests.support.doors import SPEECH, accepted, until_state
from tests.support.fleets import Stack
from tests.support.nats_asking import WHOLE
from tests.support.nats_cli import nats_req

stack = fleets.stack("speech,tone", 4, knows_all=True)
http = fleets.http()

RATE_HZ = 22_050
SCRIPT = [
    {"speaker": "Anna", "text": "Who is there?", "voice": "en-gb"},
    {"speaker": "Ben", "text": "It is me ⟴."},
    {"speaker": "Anna", "text": "Come in."},
]
PAUSE = bytes(2 * int(PAUSE_S * RATE_HZ))


async def spoken(http: aiohttp.ClientSession, **body: Any) -> tuple[bytes, str]:
    """The PCM and the id of a job of `speech`."""
    async with http.post(SPEECH, json={"model": "speech", "response_format": "pcm", **body}) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["Antiphon-Voice"].count(";model=speech;version=v1") == (2 if "script" in body else 1)
        return await answer.read(), answer.headers["Antiphon-Job"]


async def test_the_turns_are_one_sound_with_the_voices_that_the_gateway_chose(http: aiohttp.ClientSession) -> None:
    pcm, job = await spoken(http, script=SCRIPT)
    facts = (await until_state(http, job, "done"))["engine"]
    assert facts["turns"] == 3
    anna, ben = facts["voices"]
    assert (anna, ben.startswith("en"), ben != anna) == ("en-gb", True, True)
    alone = [
        (await spoken(http, input=turn["text"], voice=voice))[0]
        for turn, voice in zip(SCRIPT, (anna, ben, anna), strict=True)
    ]
    assert pcm == PAUSE.join(alone)
    assert (await spoken(http, script=SCRIPT)) == (pcm, job), "identical requests share one run"


async def test_marks_and_skipped_tokens_count_in_the_joined_texts(http: aiohttp.ClientSession) -> None:
    job = await accepted(http, {"script": SCRIPT})
    shown = await until_state(http, job, "done")
    text = "\n".join(turn["text"] for turn in SCRIPT)
    assert [text[each["start"] :][: each["length"]] for each in shown["skipped"]] == ["⟴."]
    assert shown["completeness"] == "words"
    async with http.get(f"/v1/jobs/{job}/marks") as answer:
        marks = (await answer.json())["marks"]
    sentences = [text[each["start"] :][: each["length"]] for each in marks if each["kind"] == "sentence"]
    assert sentences == [turn["text"] for turn in SCRIPT]
    assert {"Who", "me", "Come"} <= {each.get("text") for each in marks}


async def test_events_of_the_speech_api_have_the_words_of_each_turn(http: aiohttp.ClientSession) -> None:
    body = {"script": SCRIPT, "response_format": "pcm", "stream_format": "sse"}
    async with http.post(SPEECH, json=body) as answer:
        text = await answer.text()
    assert '"text":"Come"' in text
    assert f'"input_characters":{len("Who is there? It is me ⟴. Come in.")}' in text


async def test_a_script_over_nats_is_the_same_job_with_and_without_a_gateway(
    http: aiohttp.ClientSession, stack: Stack
) -> None:
    pcm, _ = await spoken(http, script=SCRIPT)
    settings = stack.settings
    client = await nats.connect(settings.nats)
    try:
        answer = await nats_req(
            client, f"{settings.root}.submit", wire.encode({"model": "speech", "script": SCRIPT}), **WHOLE
        )
        assert answer.pcm == pcm
        body = wire.encode({"id": "direct", "script": SCRIPT})
        await client.jetstream().publish(f"{settings.root}.job.speech.v1.standard.public", body)
        await until_state(http, "direct", "done")
    finally:
        await client.close()
    async with http.get("/v1/jobs/direct/audio?format=pcm") as direct:
        assert await direct.read() == pcm


@pytest.mark.parametrize(
    ("body", "path", "words"),
    [
        ({}, "input", "is empty"),
        ({"input": "x", "script": SCRIPT}, "script", "an input too ('x')"),
        ({"script": SCRIPT * 3_334}, "script", "has 10002 turns, the limit is 1000"),
        ({"script": [{"text": "a" * 100_000}] * 3}, "script", "has 300002 characters in all, the limit is 200000"),
        ({"script": [*SCRIPT, {"text": "x", "voice": "nobody"}]}, "script[3].voice", "'nobody'"),
        ({"script": [{"text": " "}]}, "script[0].text", "is empty"),
        ({"script": [{"text": "a\x01"}]}, "script[0].text", "U+0001 at position 1"),
        ({"script": [{"text": "x", "speaker": "y" * 101}]}, "script[0].speaker", "101 characters, the limit is 100"),
        ({"script": [{"text": "x", "voise": "en"}]}, "script[0].voise", "unknown field"),
        ({"script": [{"speaker": "Anna"}]}, "script[0].text", "is required"),
        ({"script": [{"text": 7}]}, "script[0].text", "`str`"),
        ({"script": "Hello"}, "script", "`array`"),
        ({"script": SCRIPT, "model": "tone"}, "script", "'tone' takes no script"),
        ({"script": SCRIPT, "voice": "nobody"}, "voice", "'nobody'"),
    ],
    ids=range(14),
)
async def test_a_wrong_script_is_refused_by_field_limit_and_value_before_it_is_accepted(
    http: aiohttp.ClientSession, body: dict[str, Any], path: str, words: str
) -> None:
    async with http.post("/v1/jobs", json={"model": "speech", **body}) as answer:
        assert answer.status == 422
        problem = await answer.json()
    assert (problem["path"], problem["detail"].startswith(f"{path}: ")) == (path, True)
    assert words in problem["detail"]
    assert len(problem["detail"]) < 500


async def test_a_script_without_a_gateway_is_refused_by_the_worker_and_ends_its_log(
    http: aiohttp.ClientSession, stack: Stack
) -> None:
    settings = stack.settings
    client = await nats.connect(settings.nats)
    cases = {
        "none": ("tone", {"script": SCRIPT}, "script: 'tone' takes no script"),
        "many": ("speech", {"script": SCRIPT * 400}, "script: has 1200 turns, the limit is 1000"),
        "voice": ("speech", {"script": [{"text": "x", "voice": "zz-nobody"}]}, "script[0].voice: 'zz-nobody'"),
    }
    try:
        for name, (model, body, _) in cases.items():
            await client.jetstream().publish(
                f"{settings.root}.job.{model}.v1.standard.public", wire.encode({"id": name, **body})
            )
    finally:
        await client.close()
    for name, (_, _, words) in cases.items():
        error = (await until_state(http, name, "failed"))["error"]
        assert (error["code"], words in error["message"]) == ("invalid", True), error


async def test_a_word_that_a_voice_cannot_speak_names_its_turn(http: aiohttp.ClientSession) -> None:
    job = await accepted(http, {"script": [{"text": "Hello."}, {"text": "ᏣᎳᎩ"}]})
    error = (await until_state(http, job, "failed"))["error"]
    assert (error["code"], error["path"]) == ("text_lost", "script[1].text")
    assert error["message"].startswith("script[1].text: ")
