"""Two tenants at three gateways that require keys: each has its own jobs, and a revoked key is refused at once."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import aiohttp
import nats
import pytest

from bus.access.keys import Key, Keys, Limits
from bus.jobs.client import Bus, open_bus
from bus.settings import BusSettings
from tests.support.doors import SPEECH, accepted, gateway_here, state_of, tone, until_state
from tests.support.fleets import small_bus
from tests.support.nats_asking import STEADY, WHOLE, job
from tests.support.nats_cli import nats_req
from tests.support.programs import Program, fleet_of
from tests.support.tone import tone_pcm
from tests.support.web import base_of

PAGE = "https://app.example.org"
CROSS = "https://evil.example"


@dataclass
class Stack:
    settings: BusSettings
    gateways: list[Program]
    urls: list[str]


@pytest.fixture(scope="module")
def stack(nats_url: str) -> Iterator[Stack]:
    settings = small_bus(nats_url)
    with fleet_of(settings) as fleet:
        started = [fleet.gateway("--no-anonymous", "--cors-origins", PAGE) for _ in range(3)]
        fleet.worker("w1", "tone", 8)
        for gateway, _ in started:
            gateway.wait_for("submit.ready")
        yield Stack(settings, [gateway for gateway, _ in started], [url for _, url in started])


@pytest.fixture
async def bus(stack: Stack) -> AsyncIterator[Bus]:
    async with open_bus(stack.settings, "operator", declare=False) as bus:
        yield bus


@dataclass
class Tenant:
    """One tenant's key, and a session with it at each gateway."""

    key: Key
    text: str
    at: list[aiohttp.ClientSession]


@pytest.fixture
async def tenants(stack: Stack, bus: Bus) -> AsyncIterator[list[Tenant]]:
    """Two of them, whose keys every gateway knows."""
    made = [await Keys(bus).create(name, Limits()) for name in ("acme", "globex")]
    both = [
        Tenant(
            key, text, [aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {text}"}) for url in stack.urls]
        )
        for key, text in made
    ]
    async with asyncio.timeout(20):
        for http in (session for tenant in both for session in tenant.at):
            while (await http.get("/v1/models")).status != 200 or (await http.get("/readyz")).status != 200:
                await asyncio.sleep(0.02)
    yield both
    for http in (session for tenant in both for session in tenant.at):
        await http.close()
    logs = [line for gateway in stack.gateways for line in gateway.log().splitlines()]
    assert not [line for line in logs if "Traceback" in line or "http.failed" in line]
    assert not [line for line in logs for tenant in both if tenant.text[16:] in line]


async def statuses(http: aiohttp.ClientSession, job_id: str) -> dict[str, int]:
    """The status of every path of a job."""
    requests = {
        "show": ("GET", f"/v1/jobs/{job_id}"),
        "events": ("GET", f"/v1/jobs/{job_id}/events"),
        "audio": ("GET", f"/v1/jobs/{job_id}/audio"),
        "from": ("GET", f"/v1/jobs/{job_id}/audio?format=pcm&from_frame=100"),
        "head": ("HEAD", f"/v1/jobs/{job_id}/audio"),
        "block": ("GET", f"/v1/jobs/{job_id}/blocks/0"),
        "cancel": ("DELETE", f"/v1/jobs/{job_id}"),
    }
    found = {}
    for name, (method, path) in requests.items():
        async with http.request(method, path) as answer:
            found[name] = answer.status
            body = await answer.read()
            assert method == "HEAD" or json.loads(body)["code"] == "not_found", body
    return found


async def test_a_tenant_neither_sees_plays_lists_nor_cancels_the_jobs_of_another(tenants: list[Tenant]) -> None:
    ours, theirs = tenants
    running = await accepted(ours.at[0], tone(params={"seconds": 600, **STEADY}))
    done = await accepted(ours.at[0], tone(params={"seconds": 0.1}))
    await until_state(ours.at[0], done, "done")
    await until_state(ours.at[1], running, "running")
    for http in theirs.at:
        for job_id in (running, done):
            assert set((await statuses(http, job_id)).values()) == {404}
        async with http.get("/v1/jobs?limit=1000") as answer:
            assert not {running, done} & {each["id"] for each in (await answer.json())["jobs"]}
    async with ours.at[1].get("/v1/jobs") as answer:
        assert {running, done} <= {each["id"] for each in (await answer.json())["jobs"]}
    assert await state_of(ours.at[1], running) == "running"
    async with ours.at[1].delete(f"/v1/jobs/{running}") as answer:
        assert (await answer.json())["state"] == "cancelled"


async def test_one_id_and_one_idempotency_key_are_two_jobs_for_two_tenants(tenants: list[Tenant]) -> None:
    lengths = (0.1, 0.2)
    for tenant, seconds in zip(tenants, lengths, strict=True):
        async with tenant.at[0].put("/v1/jobs/mine", json=tone(params={"seconds": seconds})) as answer:
            assert answer.status == 202, await answer.text()
    body = tone(response_format="pcm", params={"seconds": 0.1})
    jobs = []
    for tenant, seconds in zip(tenants, lengths, strict=True):
        done = await until_state(tenant.at[1], "mine", "done")
        assert done["seconds"] == seconds
        async with tenant.at[0].post(SPEECH, json=body, headers={"Idempotency-Key": "once"}) as answer:
            jobs.append(answer.headers["Antiphon-Job"])
            assert await answer.read() == tone_pcm(0.1)
    for tenant, job_id in zip(tenants, jobs, strict=True):
        async with tenant.at[0].get("/v1/jobs?limit=2") as answer:
            newest = (await answer.json())["jobs"]
        assert [each["id"] for each in newest] == [job_id, "mine"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/jobs"),
        ("GET", "/v1/jobs"),
        ("GET", "/v1/models"),
        ("GET", "/v1/fleet"),
        ("POST", SPEECH),
        ("OPTIONS", "/v1/jobs"),
        ("GET", "/nowhere"),
    ],
)
async def test_without_a_key_a_caller_learns_only_that_the_gateway_is_alive(
    stack: Stack, method: str, path: str
) -> None:
    async with aiohttp.ClientSession(stack.urls[0]) as http:
        for headers in ({}, {"xi-api-key": "sk-of-another-api"}, {"Authorization": "Basic eDp5"}):
            async with http.request(method, path, headers=headers, json=tone()) as answer:
                assert answer.status == 401, await answer.text()
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
                problem = await answer.json()
                assert "API key" in problem.get("detail", str(problem))
        async with http.get("/livez") as alive:
            assert alive.status == 200


async def test_a_revoked_key_is_refused_by_every_gateway_within_two_seconds(
    stack: Stack, bus: Bus, tenants: list[Tenant], capsys: pytest.CaptureFixture[str]
) -> None:
    ours = tenants[0]
    body = tone(response_format="pcm", params={"seconds": 600, **STEADY})
    async with ours.at[0].post(SPEECH, json=body) as streaming:
        await streaming.content.readexactly(1000)
        revoked_at = time.monotonic()
        await Keys(bus).revoke(ours.key.id)
        took_s = await asyncio.gather(*(refused_after_s(http, revoked_at) for http in ours.at))
        with capsys.disabled():
            print(f"\nrevoked key refused after {', '.join(f'{each * 1000:.1f} ms' for each in took_s)}")
        assert max(took_s) < 2.0
        # A stream that began goes on, and other keys stay valid.
        assert await streaming.content.readexactly(1000)
    client = await nats.connect(stack.settings.nats)
    answer = await nats_req(client, f"{stack.settings.root}.submit", job(), bearer(ours.text), **WHOLE)
    assert answer.json(0)["status"] == 401
    await client.close()
    assert (await tenants[1].at[0].get("/v1/models")).status == 200


async def refused_after_s(http: aiohttp.ClientSession, since: float) -> float:
    async with asyncio.timeout(20):
        while True:
            async with http.get("/v1/models") as answer:
                if answer.status == 401:
                    return time.monotonic() - since
                assert answer.status == 200


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


async def test_over_nats_the_key_has_the_tenant_of_the_job(stack: Stack, tenants: list[Tenant]) -> None:
    ours, theirs = tenants
    root, client = stack.settings.root, await nats.connect(stack.settings.nats)
    answer = await nats_req(client, f"{root}.submit", job(seconds=0.1), bearer(ours.text), **WHOLE)
    assert answer.pcm == tone_pcm(0.1)
    accepted_job = answer.json(0)
    assert accepted_job["live"] == f"{root}.live.acme.{accepted_job['job']}"
    assert await state_of(ours.at[0], accepted_job["job"]) == "done"
    assert (await theirs.at[0].get(f"/v1/jobs/{accepted_job['job']}")).status == 404
    for subject, headers, status in (
        (f"{root}.submit", {}, 401),
        (f"{root}.submit", bearer(ours.text[:-1]), 401),
        (f"{root}.submit.acme", bearer(theirs.text), 403),
    ):
        refused = await nats_req(client, subject, job(seconds=0.1), headers, **WHOLE)
        assert refused.json(0)["status"] == status
    mine = await accepted(ours.at[0], tone(params={"seconds": 600, **STEADY}))
    refused = await nats_req(client, f"{root}.cancel.acme.{mine}", "", bearer(theirs.text))
    assert refused.header(0, "Nats-Service-Error-Code") == "400"
    assert await state_of(ours.at[0], mine) in {"queued", "running"}
    cancelled = await nats_req(client, f"{root}.cancel.acme.{mine}", "", bearer(ours.text))
    assert cancelled.json(0)["state"] == "cancelled"
    await client.close()


async def test_a_listed_page_reads_every_answer_errors_and_streams_too(stack: Stack, tenants: list[Tenant]) -> None:
    http, page = tenants[0].at[0], {"Origin": PAGE}
    preflight = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    async with aiohttp.ClientSession(stack.urls[0]) as keyless:
        async with keyless.options(SPEECH, headers=page | preflight) as answer:
            assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (204, PAGE)
            assert "authorization" in answer.headers["Access-Control-Allow-Headers"]
        async with keyless.options(SPEECH, headers={"Origin": CROSS} | preflight) as answer:
            assert (answer.status, answer.headers.get("Access-Control-Allow-Origin")) == (403, None)
            assert answer.headers["Vary"] == "Origin"
        async with keyless.get("/v1/jobs", headers=page) as answer:
            assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (401, PAGE)
    body = tone(response_format="pcm", params={"seconds": 0.1})
    for method, path, status in (("POST", SPEECH, 200), ("GET", "/v1/jobs/unknown", 404), ("GET", "/nowhere", 404)):
        async with http.request(method, path, json=body, headers=page) as answer:
            assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (status, PAGE)
            assert answer.headers["Vary"] == "Origin"
            assert "Antiphon-Job" in answer.headers["Access-Control-Expose-Headers"]
        async with http.request(method, path, json=body, headers={"Origin": CROSS}) as answer:
            assert (answer.status, answer.headers.get("Access-Control-Allow-Origin")) == (status, None)


async def test_where_no_key_is_needed_no_foreign_page_creates_or_cancels_a_job(bus_settings: BusSettings) -> None:
    async with gateway_here(bus_settings) as (gateway, http):
        ours = str(base_of(http)).rstrip("/")
        for origin, status in ((CROSS, 403), ("null", 403), (ours, 503), (None, 503)):
            # A page needs no permission to send this: a form sends it too.
            headers = {"Content-Type": "text/plain"} | ({"Origin": origin} if origin else {})
            for method, path in (
                ("POST", "/v1/jobs"),
                ("POST", SPEECH),
                ("PUT", "/v1/jobs/x"),
                ("DELETE", "/v1/jobs/x"),
            ):
                async with http.request(method, path, data=json.dumps(tone()), headers=headers) as answer:
                    assert answer.status == (404 if method == "DELETE" and status == 503 else status)
                    assert "Access-Control-Allow-Origin" not in answer.headers
        async with http.get("/v1/jobs", headers={"Host": "evil.example"}) as answer:
            assert answer.status == 403
        assert (await gateway.bus.js.info(gateway.bus.subjects.jobs_stream))["state"]["last_seq"] == 0
