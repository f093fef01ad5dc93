"""The accounts and users of `ops/deploy/nats`: the whole stack works with them, and no user may do more than its part."""

import asyncio
import itertools
import json
import subprocess
from pathlib import Path

import aiohttp
import pytest
from nats.aio.client import Client
from nats.errors import NoRespondersError

from bus.access.keys import Keys, Limits
from bus.blobs.reading import read_blob
from bus.blobs.store import BlobStore
from bus.blobs.voices import VoiceRecords
from bus.jobs.client import open_bus
from bus.settings import BusSettings
from ops.local.nats_server import find_binary
from tests.support import guarded_stack, piper_voice
from tests.support.clips import samples_of, tone_clip, upload
from tests.support.commands import antiphon
from tests.support.figures import until
from tests.support.guarded_stack import Stack
from tests.support.nats_asking import STEADY, WHOLE, job
from tests.support.nats_cli import nats_req
from tests.support.nats_users import CONFIGS, FORBIDDEN, TENANTS, USERS, environment, visitor
from tests.support.tone import tone_pcm
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

QUEUED = "antiphon_queue_jobs"


stack = guarded_stack.stack()
client = guarded_stack.client()


async def test_a_gateways_metrics_may_ask_about_every_stream_and_queue(stack: Stack) -> None:
    lane = {"model": "tone", "version": "v1", "lane": "interactive"}
    async with aiohttp.ClientSession() as http:  # a worker that is ready declares its queues just then
        figures = await until(
            http, f"{stack.http}/metrics", lambda figures: figures.get(QUEUED, **lane) == 0, within_s=30
        )
    held = {name for (name,) in figures.of("antiphon_stream_limit_bytes")}
    assert held >= {"jobs", "replies", "dead", "hooks"}, "keys and usage are made when first used"
    assert stack.gateway.events("metrics.read_failed") == []


@pytest.mark.parametrize("config", ["single.conf", "cluster.conf"])
def test_nats_server_finds_the_configuration_valid(config: str, tmp_path: Path) -> None:
    env = environment(dict.fromkeys(USERS, "pw"), tmp_path)
    env |= {
        "NATS_SERVER_NAME": "n1",
        "NATS_CLUSTER_PASSWORD": "pw",
        "NATS_ROUTES": '["nats://cluster:pw@127.0.0.1:6222"]',
    }
    checked = subprocess.run(
        [find_binary(), "-t", "-c", CONFIGS / config], env=env, capture_output=True, text=True, check=False, timeout=20
    )
    assert checked.returncode == 0, checked.stderr


def test_without_its_passwords_no_server_starts(tmp_path: Path) -> None:
    checked = subprocess.run(
        [find_binary(), "-t", "-c", CONFIGS / "single.conf"],
        env={"NATS_STORE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert checked.returncode != 0
    assert "NATS_GATEWAY_PASSWORD" in checked.stderr


async def test_a_whole_stream_over_http_works_with_gateway_and_worker_as_users(stack: Stack) -> None:
    body = {"model": "tone", "input": "x", "response_format": "pcm", "params": {"seconds": 1, **STEADY}}
    async with asyncio.timeout(20), aiohttp.ClientSession(stack.http) as http:
        async with http.post("/v1/audio/speech", json=body) as answer:
            assert await answer.read() == tone_pcm(1)
            job_id = answer.headers["Antiphon-Job"]
        async with http.get(f"/v1/jobs/{job_id}") as answer:
            assert (await answer.json())["state"] == "done"
        async with http.get("/v1/jobs") as answer:
            assert job_id in {each["id"] for each in (await answer.json())["jobs"]}
        async with http.get(f"/v1/jobs/{job_id}/audio?format=pcm&from_frame=12000") as answer:
            assert await answer.read() == tone_pcm(1, 12_000)


async def test_a_blob_is_put_with_a_gateway_as_user_and_read_with_a_worker(stack: Stack) -> None:
    async with asyncio.timeout(20), aiohttp.ClientSession(stack.http) as http:
        async with http.put("/v1/blobs", data=b"bytes") as answer:
            assert answer.status == 201, await answer.text()
            digest = (await answer.json())["digest"]
        settings = BusSettings(nats=stack.server.as_user("worker"), root="antiphon")
        async with open_bus(settings, "worker", declare=False) as bus:
            store = BlobStore(bus)
            found = await store.get("public", digest)
            assert [piece async for piece in read_blob(bus, found.blob)] == [b"bytes"]
        async with http.delete(f"/v1/blobs/{digest}") as answer:
            assert answer.status == 204


async def test_a_voice_is_uploaded_used_and_deleted_with_a_gateway_as_user(stack: Stack) -> None:
    clip = tone_clip()
    async with asyncio.timeout(20), aiohttp.ClientSession(stack.http) as http:
        _, voice = await upload(http, "Ada", clip)
        body = {"model": "tone", "input": "x", "voice": "Ada", "response_format": "pcm", "params": {"seconds": 0.5}}
        async with http.post("/v1/audio/speech", json=body) as answer:
            assert await answer.read() == samples_of(clip)[:24_000]
        async with http.delete(f"/v1/audio/voices/{voice['id']}") as answer:
            assert answer.status == 200, await answer.text()


async def test_an_operator_installs_a_voice_that_workers_and_gateways_see(stack: Stack, tmp_path: Path) -> None:
    piper_voice.write(tmp_path, "en_US-random-low")
    flags = ("--nats", stack.server.as_user("operator"), "--from", str(tmp_path), "--yes")
    done = await asyncio.to_thread(antiphon, "voices", "install", "en_US-random-low", *flags)
    assert done.returncode == 0, done.stderr
    for user in ("worker", "gateway"):
        settings = BusSettings(nats=stack.server.as_user(user), root="antiphon")
        async with open_bus(settings, user, declare=False) as bus:
            assert [each.name for each in await VoiceRecords(bus).all()] == ["en_US-random-low"]
            assert len(await VoiceRecords(bus).files()) == 2


async def test_an_operator_sets_a_route_that_a_gateway_follows(stack: Stack) -> None:
    nats = ("--nats", stack.server.as_user("operator"))
    done = await asyncio.to_thread(antiphon, "route", "set", "song", "tone@v1=1", *nats)
    assert done.returncode == 0, done.stderr
    async with asyncio.timeout(30), aiohttp.ClientSession(stack.http) as http:
        while True:  # until the gateway has it
            async with http.post("/v1/jobs", json={"model": "song", "input": "x"}) as answer:
                if answer.status == 202:
                    break
            await asyncio.sleep(0.02)
    refused = await asyncio.to_thread(
        antiphon, "route", "set", "song", "tone@v1=1", "--nats", stack.server.as_user("gateway")
    )
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "`operator`" in refused.stderr


async def test_audio_is_charged_with_a_gateway_as_user(stack: Stack) -> None:
    settings = BusSettings(nats=stack.server.as_user("operator"), root="antiphon")
    async with open_bus(settings, "operator", declare=False) as bus:
        _, key = await Keys(bus).create("acme", Limits(audio_s_per_day=0.1))
    body = {"model": "tone", "input": "x", "response_format": "pcm", "params": {"seconds": 0.2}}
    headers = {"Authorization": f"Bearer {key}"}
    async with asyncio.timeout(30), aiohttp.ClientSession(stack.http, headers=headers) as http:

        async def asked(seed: int) -> int:
            """Hear it to its end: what is hung up on goes on beside the tests that follow."""
            async with http.post("/v1/audio/speech", json={**body, "seed": seed}) as answer:
                await answer.read()
                return answer.status

        while (status := await asked(0)) == 401:
            await asyncio.sleep(0.02)
        assert status == 200
        for seed in itertools.count(1):
            if await asked(seed) == 429:
                break


async def test_webhooks_are_worked_off_with_a_gateway_as_user(stack: Stack) -> None:
    # Tried, tried again, and buried: to an address of our own nothing is sent.
    body = {"model": "tone", "input": "x", "webhook": {"url": "http://localhost:9/hook", "events": ["accepted"]}}
    async with aiohttp.ClientSession(stack.http) as http, http.post("/v1/jobs", json=body) as answer:
        job_id = (await answer.json())["id"]
    buried = await asyncio.to_thread(stack.gateway.wait_for, "webhook.dead_lettered")
    assert (buried["job"], buried["tries"]) == (job_id, 2)


async def test_hanging_up_frees_the_slot_with_users_too(stack: Stack) -> None:
    body = {"model": "tone", "input": "x", "response_format": "pcm", "params": {"seconds": 600, **STEADY}}
    async with asyncio.timeout(30), aiohttp.ClientSession(stack.http) as http:
        answer = await http.post("/v1/audio/speech", json=body)
        await answer.content.readexactly(1000)
        answer.close()
        job_id = answer.headers["Antiphon-Job"]
        await eventually(lambda: job_id in {each["job"] for each in stack.worker.events("job.finished")}, within_s=20)


@pytest.mark.parametrize("user", TENANTS)
async def test_a_tenant_submits_and_receives_every_sample(client: Client, user: str) -> None:
    answer = await nats_req(client, f"antiphon.submit.{user}", job(seconds=0.5), **WHOLE)
    assert answer.pcm == tone_pcm(0.5)
    assert answer.replies[-1].data == b""


@pytest.mark.parametrize("user", TENANTS)
async def test_a_tenant_listens_to_its_own_live_subject(client: Client, user: str) -> None:
    live = await client.subscribe(f"antiphon.live.{user}.*")
    answer = await nats_req(client, f"antiphon.submit.{user}", job(seconds=0.5), **WHOLE)
    kinds, pcm = [], b""
    while kinds[-1:] != ["done"]:
        entry = await live.next_msg(timeout=20)
        if entry.subject == f"antiphon.live.{user}.{answer.json(0)['job']}":  # and not of a job before it
            kinds.append(entry.headers["Antiphon-Kind"])
            pcm += entry.data if kinds[-1] == "block" else b""
    assert set(kinds) == {"block", "done"}
    assert pcm == tone_pcm(0.5)


@pytest.mark.parametrize("user", TENANTS)
async def test_a_tenant_reads_its_own_log_again_by_its_jobs_id(client: Client, user: str) -> None:
    body = job({"id": "mine", "run_on": True}, seconds=0.5)
    assert len(await nats_req(client, f"antiphon.submit.{user}", body)) == 1
    again = await nats_req(client, f"antiphon.submit.{user}", body, **WHOLE)
    assert (again.json(0)["job"], again.pcm) == ("mine", tone_pcm(0.5))


@pytest.mark.parametrize("user", TENANTS)
async def test_a_tenant_cancels_its_own_job(client: Client, user: str) -> None:
    body = job({"id": "long", "run_on": True}, seconds=600, **STEADY)
    await nats_req(client, f"antiphon.submit.{user}", body, replies=3, reply_timeout_s=5)
    cancelled = await nats_req(client, f"antiphon.cancel.{user}.long", "", timeout_s=20)
    assert cancelled.json(0) == {"id": "long", "state": "cancelled"}


@pytest.mark.parametrize("user", ["acme"])
async def test_a_tenant_in_the_shared_account_is_seen_leaving(stack: Stack, client: Client) -> None:
    before = len(stack.gateway.events("submit.abandoned"))
    await nats_req(client, "antiphon.submit.acme", job(seconds=600, **STEADY), replies=3, reply_timeout_s=5)
    await asyncio.to_thread(stack.gateway.wait_for, "submit.abandoned", before + 1, 9.0)  # of silence, after 10 s


@pytest.mark.parametrize("user", ["globex"])
async def test_a_tenant_with_an_account_queues_directly_and_reads_single_entries(client: Client) -> None:
    live = await client.subscribe("antiphon.live.globex.direct")
    body = job({"id": "direct"}, seconds=0.5).encode()
    ack = await client.request("antiphon.job.tone.v1.standard.globex", body, timeout=20)
    assert json.loads(ack.data)["stream"] == "ANTIPHON_JOBS"
    pcm = b""
    while (entry := await live.next_msg(timeout=20)).headers["Antiphon-Kind"] == "block":
        pcm += entry.data
    assert pcm == tone_pcm(0.5)
    read = "$JS.API.DIRECT.GET.ANTIPHON_REPLIES.antiphon.reply.globex.direct"
    end, birth = [await client.request(f"{read}.{kind}", b"", timeout=20) for kind in ("c", "job")]
    assert json.loads(end.data)["frames"] == 12_000
    assert json.loads(birth.data)["job"]["id"] == "direct"


@pytest.mark.parametrize(("user", "act", "subject"), FORBIDDEN)
async def test_what_is_not_ones_part_is_refused(stack: Stack, user: str, act: str, subject: str) -> None:
    visit = await visitor(stack.server, user)
    if act == "pub":
        await visit.client.publish(subject, b"{}", reply=f"{USERS[user]}.x")
    else:
        await visit.client.subscribe(subject)
    await visit.client.flush()
    # An error is on the wire before the PONG, but a task of its own reports it.
    async with asyncio.timeout(20):
        while not visit.refused:
            await asyncio.sleep(0)
    kind = "Publish" if act == "pub" else "Subscription"
    assert [
        f'permissions violation for {kind.lower()} to "{subject.lower()}"' in text.lower() for text in visit.refused
    ] == [True]
    await visit.client.close()


@pytest.mark.parametrize("login", [{}, {"user": "gateway"}, {"user": "gateway", "pass": "guess"}])
async def test_no_client_connects_without_a_password(stack: Stack, login: dict[str, str]) -> None:
    host, port = stack.server.url.removeprefix("nats://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"CONNECT {json.dumps(login)}\r\nPING\r\n".encode())
    async with asyncio.timeout(20):
        assert (await reader.read()).splitlines()[-1] == b"-ERR 'Authorization Violation'"
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("user", ["gateway"])
async def test_a_gateway_makes_room_by_purging_one_ended_log(stack: Stack, client: Client) -> None:
    tenant = (await visitor(stack.server, "acme")).client
    answer = await nats_req(tenant, "antiphon.submit.acme", job(seconds=0.1), **WHOLE)
    await tenant.close()
    log = {"filter": f"antiphon.reply.acme.{answer.json(0)['job']}.*"}
    purged = await client.request("$JS.API.STREAM.PURGE.ANTIPHON_REPLIES", json.dumps(log).encode(), timeout=20)
    assert json.loads(purged.data)["purged"] >= 3


@pytest.mark.parametrize("user", ["operator"])
async def test_an_operator_sees_the_streams(client: Client) -> None:
    names = {info.config.name for info in await client.jetstream().streams_info()}
    assert {"ANTIPHON_JOBS", "ANTIPHON_REPLIES", "ANTIPHON_DEAD"} <= names
    pong = await client.request("antiphon.worker.w1.ping", b"", timeout=20)
    assert json.loads(pong.data)["boot"]
    with pytest.raises(NoRespondersError):
        await client.request("antiphon.worker.nobody.drain", b"", timeout=20)
