"""Requests that cannot be served: each a clear error that names field, limit and value, and nothing is lost by it."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.support import fleets
from tests.support.doors import SPEECH, tone, wav, wav_pcm
from tests.support.fleets import Stack
from tests.support.tone import tone_pcm

MAX_BODY_BYTES = 200_000
JOB_FLAGS = ("--max-job-bytes", "120000")

#: None of the tests here may harm the next.
stack = fleets.stack(
    *("tone,speech", 4, *JOB_FLAGS),
    gateway_flags=("--max-body-bytes", str(MAX_BODY_BYTES), *JOB_FLAGS),
    knows_all=True,
    max_job_bytes=120_000,
)


@pytest.fixture
async def http(stack: Stack) -> AsyncIterator[aiohttp.ClientSession]:
    async with fleets.asking(stack.url) as http:
        yield http
        # Whatever was refused: the next one is served.
        async with http.post(SPEECH, json=wav(params={"seconds": 0.1})) as answer:
            assert wav_pcm(await answer.read()) == tone_pcm(0.1)
    for program in (stack.gateway, stack.worker):
        assert program.process.poll() is None
        assert not [line for line in program.log().splitlines() if "Traceback" in line or "http.failed" in line]


def job(**fields: Any) -> dict[str, Any]:
    return {"model": "tone", "input": "x", **fields}


#: Body, status, path, words of the detail.
NATIVE: list[tuple[object, int, str, list[str]]] = [
    (job(model="tonne"), 404, "model", ["'tonne'", "did you mean 'tone'"]),
    (job(model="zzz"), 404, "model", ["'zzz'", "'speech', 'tone'"]),
    (job(version="v9"), 404, "version", ["'v9'", "v1"]),
    ({"input": "x", "voice": "xn-us"}, 422, "voice", ["'xn-us'", "'en-us'"]),
    (job(voice="bob"), 422, "voice", ["'bob'", "no voices"]),
    (job(lane="fast"), 422, "lane", ["'fast'", "interactive, standard, batch"]),
    (job(vioce="x"), 422, "vioce", ["did you mean 'voice'"]),
    (job(tenant="me"), 422, "tenant", ["unknown field"]),
    ({"model": "tone"}, 422, "input", ["is empty"]),
    (job(input=""), 422, "input", ["empty"]),
    (job(input=" \n\t "), 422, "input", ["empty"]),
    (job(input="y" * 100_001), 422, "input", ["100001", "100000", "yyy"]),
    (job(input="ab\x07c"), 422, "input", ["U+0007", "position 2"]),
    (job(input="ab\x86c"), 422, "input", ["U+0086", "position 2"]),
    (job(input=7), 422, "input", ["str", "7"]),
    (job(input=None), 422, "input", ["is empty"]),
    (job(params=[]), 422, "params", ["object", "[]"]),
    (job(params={"secnds": 3}), 422, "params.secnds", ["did you mean 'seconds'"]),
    (job(params={"seconds": -3}), 422, "params.seconds", ["-3", "0"]),
    (job(params={"seconds": 1e9}), 422, "params.seconds", ["1000000000", "36000"]),
    (job(params={"device": "z" * 500}), 422, "params.device", ["zzz…", "'shared', 'own'"]),
    (job(params={"seconds": "2"}), 422, "params.seconds", ["'2'", "number"]),
    (job(seed=-1), 422, "seed", ["-1", "9223372036854775807"]),
    (job(seed=2**63), 422, "seed", ["9223372036854775808", "9223372036854775807"]),
    (job(seed=1.5), 422, "seed", ["int", "1.5"]),
    (job(linger_s=3601), 422, "linger_s", ["3601", "3600"]),
    (job(linger_s=-1), 422, "linger_s", ["-1"]),
    (job(run_on="yes"), 422, "run_on", ["bool", '"yes"']),
    (job(expires_at="tomorrow"), 422, "expires_at", ['"tomorrow"']),
    (job(expires_at="2030-01-01T00:00:00"), 422, "expires_at", ["offset"]),
    (job(expires_at="2020-01-01T00:00:00Z"), 422, "expires_at", ["in the past", "2020"]),
    (job(expires_at="2999-01-01T00:00:00Z"), 422, "expires_at", ["12 h", "2999"]),
    (job(id="a.b"), 422, "id", ["'a.b'", "1 to 64"]),
    (job(id="x" * 65), 422, "id", ["1 to 64"]),
    ([], 422, "", ["object", "[]"]),
    ("text", 422, "", ["object", '"text"']),
    (b"", 400, "", ["empty"]),
    (b'{"input":"x"', 400, "", ["not JSON"]),
    (b'{"input":"x",}', 400, "", ["not JSON", "byte 13"]),
    (b'{"input":"x","seed":NaN}', 400, "", ["NaN", "byte 20"]),
    (b'{"input":"x","linger_s":-Infinity}', 400, "", ["-Infinity", "byte 24"]),
    (b'{"input":"x","linger_s":1e999}', 400, "", ["linger_s", "too large"]),
    (b'{"input":"x","params":{"speed":1e999}}', 400, "", ["params", "too large"]),
    (b'{"input":"\xff\xfe"}', 400, "", ["UTF-8", "0xff"]),
    (b"[" * 50_000, 400, "", ["nested"]),
    (b'{"model":"tone","input":"' + "ü".encode() * 59_990 + b'"}', 422, "input", ["120000"]),
]


@pytest.mark.parametrize(("body", "status", "path", "words"), NATIVE, ids=range(len(NATIVE)))
async def test_the_native_api_refuses_with_field_limit_and_value(
    http: aiohttp.ClientSession, body: object, status: int, path: str, words: list[str]
) -> None:
    sent: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
    async with http.post("/v1/jobs", **sent) as answer:
        text = await answer.text()
        problem = await answer.json(content_type="application/problem+json")
    assert (answer.status, problem["status"], problem.get("path", "")) == (status, status, path), text
    assert [word for word in words if word not in problem["detail"]] == [], text
    assert problem["code"] == {400: "malformed", 404: "unknown_model", 422: "invalid"}[status]
    assert problem["retryable"] is False
    assert len(text) < 700
    assert "Traceback" not in text


#: Body, status, param, words.
OPENAI: list[tuple[object, int, str | None, list[str]]] = [
    (tone(response_format="wma"), 400, "response_format", ["'wma'", "wav, pcm, mp3, opus, aac, flac"]),
    (tone(stream_format="ws"), 400, "stream_format", ["'ws'", "audio, sse"]),
    (tone(model="nope"), 404, "model", ["'nope'"]),
    (tone(voice="bob"), 400, "voice", ["'bob'"]),
    (tone(voice={"name": "x"}), 400, "voice.id", ["required"]),
    (tone(speed=0.2), 400, "speed", ["0.2", "0.25 to 4"]),
    ({"model": "speech", "input": "x", "speed": 9}, 400, "speed", ["9", "0.25 to 4"]),
    (tone(input="\x00"), 400, "input", ["U+0000"]),
    (b"{", 400, None, ["not JSON"]),
]


@pytest.mark.parametrize(("body", "status", "param", "words"), OPENAI, ids=range(len(OPENAI)))
async def test_openais_api_refuses_in_its_own_format(
    http: aiohttp.ClientSession, body: object, status: int, param: str | None, words: list[str]
) -> None:
    sent: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
    async with http.post(SPEECH, **sent) as answer:
        problem = await answer.json()
    assert answer.status == status
    assert problem["error"].keys() == {"message", "type", "param", "code"}
    assert (problem["error"]["type"], problem["error"]["param"]) == ("invalid_request_error", param)
    assert [word for word in words if word not in problem["error"]["message"]] == [], problem


@pytest.mark.parametrize("path", ["/v1/jobs", SPEECH])
async def test_a_body_over_the_limit_is_refused_with_the_limit(http: aiohttp.ClientSession, path: str) -> None:
    async with http.post(path, data=b"x" * (MAX_BODY_BYTES + 1)) as answer:
        assert answer.status == 413
        assert str(MAX_BODY_BYTES) in await answer.text()


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nope", 404, "no_such_path"),
        ("PATCH", "/v1/jobs", 405, "method_not_allowed"),
        ("GET", "/v1/jobs/unknown", 404, "not_found"),
        ("GET", "/v1/jobs/a.b", 404, "not_found"),
        ("GET", "/v1/jobs/unknown/audio", 404, "not_found"),
        ("GET", "/v1/jobs/unknown/events", 404, "not_found"),
        ("GET", "/v1/jobs/unknown/blocks/0", 404, "not_found"),
        ("DELETE", "/v1/jobs/unknown", 404, "not_found"),
        ("GET", "/v1/jobs/unknown/audio?format=wma", 422, "invalid"),
        ("GET", "/v1/jobs/unknown/audio?from_frame=-1", 422, "invalid"),
        ("GET", "/v1/jobs?limit=0", 422, "invalid"),
        ("GET", "/v1/jobs?limit=1001", 422, "invalid"),
        ("GET", "/v1/jobs?before=x", 422, "invalid"),
        ("GET", "/v1/voices?model=zzz", 404, "unknown_model"),
        ("GET", "/v1/audio/speech", 405, "method_not_allowed"),
    ],
)
async def test_every_wrong_turn_has_a_code(
    http: aiohttp.ClientSession, method: str, path: str, status: int, code: str
) -> None:
    async with http.request(method, path) as answer:
        problem = await answer.json(content_type=None)
    assert (answer.status, problem.get("error", problem)["code"]) == (status, code)
    assert status != 405 or "POST" in answer.headers["Allow"]


async def test_a_wrong_last_event_id_is_named(http: aiohttp.ClientSession) -> None:
    async with http.get("/v1/jobs/unknown/events", headers={"Last-Event-ID": "x1"}) as answer:
        assert (answer.status, (await answer.json(content_type=None))["path"]) == (422, "Last-Event-ID")


async def test_models_and_voices_are_those_that_requests_may_name(http: aiohttp.ClientSession) -> None:
    async with http.get("/v1/models") as answer:
        problem = await answer.json()
    cards = {card["id"]: card for card in problem["data"]}
    assert (problem["object"], sorted(cards)) == ("list", ["speech", "tone"])
    assert cards["tone"]["object"] == "model"
    assert cards["tone"]["rate_hz"] == 24_000
    assert cards["tone"]["param_schema"]["properties"]["seconds"]["maximum"] == 36_000
    async with http.get("/v1/voices?model=speech") as answer:
        voices = (await answer.json())["voices"]
    assert {"id", "name", "language", "model"} <= voices[0].keys()
    assert "en-us" in {voice["id"] for voice in voices}
