"""Every route, walked by a caller that knows another tenant's ids, and by one without a key."""

import asyncio
import re
import uuid
from dataclasses import dataclass

import aiohttp
import pytest
from aiohttp import web

from bus.access.keys import Keys, Limits
from bus.settings import BusSettings
from gateway.app import make_app
from gateway.compose import Services
from tests.support.doors import STEADY, accepted, gateway_here, state_of, tone, until_state
from tests.support.programs import Fleet
from tests.support.sockets import VLLM
from tests.support.sockets import tone as tone_config
from tests.support.tone import tone_pcm
from tests.support.walk import unknown_id_like
from tests.support.web import base_of

WORDS = "no other tenant may read this"
#: Parts that differ between two equivalent responses.
VOLATILE = re.compile(
    rb'"(timestamp|heard_s|clock_skew_s|rss_bytes|requests|in_flight|position|eta_s)":\s*[-\d.]+'
    rb'|"(digest|expires_at)":"[^"]+"'  # of the caller's own body, kept as a blob
    rb"|(?<=[a-z}]) [-+\d.e]+(?=\n)"  # the figure of a metric
)
#: Paths that respond to the owner of a job.
SHOWING = {
    "/v1/jobs/{id}",
    "/v1/jobs/{id}/events",
    "/v1/jobs/{id}/marks",
    "/v1/jobs/{id}/audio",
    "/v1/jobs/{id}/blocks/{n}",
    "/output/{id}.wav",
    "/api/chunk/{id}/{n}",
    "/v1/audio",
    "/query_result",
}
#: Paths that need no key.
OPEN = {"/livez", "/readyz", "/health", "/metrics", "/openapi.json", "/docs", "/"}


@dataclass(frozen=True)
class Response:
    """A response, without its volatile parts and the job's id."""

    status: int
    body: bytes


def routes(gateway: Services) -> list[tuple[str, str]]:
    """(method, path) of every route that the OpenAPI document is made from. Each is there with a slash behind it too."""
    found = {
        (route.method, route.resource.canonical.rstrip("/") or "/")
        for route in make_app(gateway).router.routes()
        if route.resource is not None and not isinstance(route.resource, web.StaticResource)
    }
    return sorted(found)


async def send(http: aiohttp.ClientSession, method: str, path: str, job_id: str, headers: dict[str, str]) -> Response:
    """Request `path` with `job_id` in every place that may hold an id."""
    filled = re.sub(r"\{(\w+)\}", lambda match: "0" if match[1] == "n" else job_id, path)
    query = {"path": f"/jobs/{job_id}.wav", "id": job_id, "task_id": job_id, "job": job_id}
    body = {"task_id_list": [job_id], "task_id": job_id, "job": job_id}
    async with asyncio.timeout(30), http.request(method, filled, params=query, json=body, headers=headers) as answer:
        data = await answer.read()
    return Response(answer.status, VOLATILE.sub(b"", data).replace(job_id.encode(), b"<id>"))


async def test_every_route_responds_to_a_stranger_as_if_the_job_did_not_exist(
    bus_settings: BusSettings, fleet: Fleet
) -> None:
    fleet.worker("w1", "tone", 8)
    async with gateway_here(bus_settings, anonymous=False) as (gateway, http):
        texts = [(await Keys(gateway.bus).create(tenant, Limits()))[1] for tenant in ("owner", "stranger")]
        await gateway.keys.refresh()
        stranger = {"xi-api-key": texts[1]}
        async with aiohttp.ClientSession(base_of(http), headers={"xi-api-key": texts[0]}) as owner:
            async with asyncio.timeout(30):
                while (await owner.get("/v1/voices?model=unknown")).status != 404:  # it knows all workers
                    await asyncio.sleep(0.01)
            done = await accepted(owner, tone(input=WORDS, params={"seconds": 0.1}))
            running = await accepted(owner, tone(input=WORDS, params={"seconds": 600, **STEADY}))
            await until_state(owner, done, "done")
            await until_state(owner, running, "running")
            song = {"prompt": WORDS, "model": "tone", "audio_format": "wav", "audio_duration": 0.1}
            async with owner.post("/release_task", json=song) as answer:
                task = str((await answer.json())["data"]["task_id"])
            await until_state(owner, f"{task}-0", "done")
            walked = routes(gateway)
            assert len(walked) > 30
            for method, path in walked:
                for job_id in (done, running, task, f"{task}-0"):
                    response = await send(http, method, path, job_id, stranger)
                    assert response == await send(http, method, path, unknown_id_like(job_id), stranger), (method, path)
                    assert WORDS.encode() not in response.body
            async with http.get("/metrics") as answer:
                figures = await answer.text()
            assert 'antiphon_queue_offered_jobs{lane="standard",model="tone",version="v1"} 1.0' in figures
            assert [name for name in ("owner", "stranger", done, running, task) if name in figures] == []
            # The walk reaches the jobs: their owner gets other responses.
            mine = {"xi-api-key": texts[0]}
            for path, job_id in {**dict.fromkeys(SHOWING, done), "/query_result": task}.items():
                method = "POST" if path == "/query_result" else "GET"
                assert await send(http, method, path, job_id, mine) != await send(http, method, path, job_id, stranger)
            async with http.get("/v1/jobs?limit=1000", headers=stranger) as answer:
                assert not {done, running} & {each["id"] for each in (await answer.json())["jobs"]}
            assert await state_of(owner, running) == "running"
            async with owner.get(f"/v1/jobs/{done}/audio?format=pcm") as answer:
                assert await answer.read() == tone_pcm(0.1)


async def test_without_a_key_every_route_but_the_open_ones_only_says_that_one_is_needed(
    bus_settings: BusSettings,
) -> None:
    async with gateway_here(bus_settings, anonymous=False) as (gateway, http):
        found = {
            (method, path): (await send(http, method, path, uuid.uuid4().hex, {})).status
            for method, path in routes(gateway)
        }
    assert {path for (_, path), status in found.items() if status != 401} <= OPEN
    assert {"/livez", "/readyz"} <= {path for _, path in found} & OPEN


ELEVENLABS = "/v1/text-to-speech/any/stream-input?model_id=tone&output_format=pcm_24000"
MULTI = "/v1/text-to-speech/any/multi-stream-input?model_id=tone&output_format=pcm_24000"


async def job_of_socket(http: aiohttp.ClientSession, path: str) -> str:
    """The id of a job that a socket made, opened with the Idempotency-Key that every caller here uses."""
    async with asyncio.timeout(30), http.ws_connect(path, headers={"Idempotency-Key": "once"}) as ws:
        if path == VLLM:
            await ws.send_json({"type": "session.config", **tone_config(seconds=0.1)})
            await ws.send_json({"type": "input.text", "text": WORDS})
            await ws.send_json({"type": "input.done"})
        elif path == MULTI:
            await ws.send_json({"text": " ", "context_id": "a", "params": {"seconds": 0.1}})
            await ws.send_json({"text": WORDS, "context_id": "a", "flush": True})
            await ws.send_json({"context_id": "a", "close_context": True})
        else:
            await ws.send_json({"text": " ", "params": {"seconds": 0.1}})
            await ws.send_json({"text": WORDS, "flush": True})
            await ws.send_json({"text": ""})
        jobs: list[str] = []
        while True:  # to the end of the audio: leaving earlier cancels the job
            message = await ws.receive()
            assert message.type in {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY}, message
            content = message.json() if message.type is aiohttp.WSMsgType.TEXT else {}
            jobs += [content["job"]] if "job" in content else []
            if content.get("type") == "audio.done" or (content.get("isFinal") and jobs):
                return jobs[0]


async def test_a_sockets_jobs_are_its_tenants_whatever_key_others_use(bus_settings: BusSettings, fleet: Fleet) -> None:
    fleet.worker("w1", "tone", 8)
    async with gateway_here(bus_settings, anonymous=False) as (gateway, http):
        texts = [(await Keys(gateway.bus).create(tenant, Limits()))[1] for tenant in ("owner", "stranger")]
        await gateway.keys.refresh()
        for text in texts:
            async with aiohttp.ClientSession(base_of(http), headers={"xi-api-key": text}) as client:
                async with asyncio.timeout(30):
                    while (await client.get("/readyz")).status != 200:
                        await asyncio.sleep(0.01)
                made = [await job_of_socket(client, path) for path in (VLLM, ELEVENLABS, MULTI)]
                for job_id in made:
                    assert (await until_state(client, job_id, "done"))["seconds"] == 0.1
                async with client.get("/v1/jobs") as answer:
                    assert [each["id"] for each in (await answer.json())["jobs"]] == made[::-1]


@pytest.mark.parametrize("key", [{}, {"xi-api-key": "sk-foreign"}, {"xi-api-key": "ak-0123456789ab-wrong"}])
@pytest.mark.parametrize("path", [VLLM, ELEVENLABS])
async def test_a_socket_without_a_valid_key_makes_no_job(
    bus_settings: BusSettings, path: str, key: dict[str, str]
) -> None:
    async with gateway_here(bus_settings, anonymous=False) as (gateway, http):
        await gateway.keys.refresh()
        # ElevenLabs' clients may bring their key with the first message.
        if path == ELEVENLABS and not key.get("xi-api-key", "").startswith("ak-"):
            async with asyncio.timeout(30), http.ws_connect(path, headers=key) as ws:
                await ws.send_json({"text": " "})
                await ws.send_json({"text": WORDS, "flush": True})
                while (message := await ws.receive()).type is not aiohttp.WSMsgType.CLOSE:
                    assert "audio" not in message.json()
                assert message.data == 1008
        else:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect(path, headers=key)
            assert refused.value.status == 401
        assert (await gateway.bus.js.info(gateway.bus.subjects.jobs_stream))["state"]["last_seq"] == 0


async def test_there_is_no_socket_that_is_not_walked_here(bus_settings: BusSettings) -> None:
    """A path that does not refuse a handshake is a socket."""
    async with gateway_here(bus_settings) as (gateway, http):
        sockets = set()
        for method, path in routes(gateway):
            if method == "GET":
                try:
                    async with asyncio.timeout(20), http.ws_connect(re.sub(r"\{\w+\}", "x", path)):
                        sockets.add(path)
                except (aiohttp.WSServerHandshakeError, TimeoutError):
                    continue
    assert sockets == {
        VLLM,
        "/v1/text-to-speech/{voice_id}/stream-input",
        "/v1/text-to-speech/{voice_id}/multi-stream-input",
        "/v1/text-to-dialogue/multi-stream-input",
    }
