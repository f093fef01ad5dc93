"""ACE-Step's API against the real programs, by a plain client of it."""

import asyncio
import json
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import aiohttp
import pytest

from bus.access.keys import Keys, Limits
from bus.jobs.client import open_bus
from tests.support import fleets
from tests.support.acestep_client import queried, released, settled, song
from tests.support.doors import STEADY, data_at, gated, wav_pcm
from tests.support.fleets import Stack
from tests.support.tone import tone_pcm

stack = fleets.stack("tone", 2, "--max-fails", "100")
http = fleets.http()


async def test_a_task_lives_from_release_to_its_files(http: aiohttp.ClientSession) -> None:
    data = await released(http, json=song())
    assert data["status"] == "queued"
    assert data["queue_position"] >= 0
    entry = await settled(http, data["task_id"])
    assert (entry["task_id"], entry["status"]) == (data["task_id"], 1)
    files = json.loads(entry["result"])
    assert len(files) == 2  # their default
    assert len({each["seed_value"] for each in files}) == 2
    for each in files:
        assert (each["status"], each["stage"], each["progress"], each["error"]) == (1, "succeeded", 1, None)
        assert (each["prompt"], each["dit_model"], each["metas"]["duration"]) == ("a tone", "tone", 0.5)
        async with http.get(each["file"]) as answer:
            assert (answer.status, answer.headers["Content-Type"]) == (200, "audio/wav")
            body = await answer.read()
            assert wav_pcm(body) == tone_pcm(0.5)
            begin = data_at(body)
        async with http.get(each["file"], headers={"Range": f"bytes={begin}-{begin + 99}"}) as answer:
            assert (answer.status, await answer.read()) == (206, tone_pcm(0.5)[:100])


@pytest.mark.parametrize(
    "sent",
    [
        {"data": {"caption": "a tone", "dit_model": "tone", "duration": "0.5", "batch_size": "1", "format": "x"}},
        {"data": json.dumps(song(batch_size=1)), "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
        {"json": {"prompt": "a tone", "param_obj": json.dumps(song(batch_size=1))}},
        {"json": {"model": "tone", "batch_size": 1, "metas": {"caption": "a tone", "targetDuration": 0.5}}},
        {
            "json": {
                "model": "tone",
                "batch_size": 1,
                "user_metadata": json.dumps({"prompt": "a tone", "duration": 0.5}),
            }
        },
        {"json": song(batch_size=1, prompt="", description="a tone", thinking=True, bpm=None, lyrics="la")},
    ],
    ids=range(6),
)
async def test_bodies_of_every_kind_and_fields_of_every_name_are_one_task(
    http: aiohttp.ClientSession, sent: dict[str, Any]
) -> None:
    entry = await settled(http, (await released(http, **sent))["task_id"])
    (element,) = json.loads(entry["result"])
    assert (element["prompt"], element["metas"]["duration"]) == ("a tone", 0.5)


async def test_a_multipart_form_is_a_task(http: aiohttp.ClientSession) -> None:
    with aiohttp.MultipartWriter("form-data") as form:
        for name, value in song(batch_size=1).items():
            form.append(str(value)).set_content_disposition("form-data", name=name)
        entry = await settled(http, (await released(http, data=form))["task_id"])
    assert json.loads(entry["result"])[0]["prompt"] == "a tone"


async def test_each_job_has_its_own_progress(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    params = gated(tmp_path / "open", 2, block_ms=100)
    running = await released(http, json=song(audio_duration=1, batch_size=2, params=params))
    waiting = await released(http, json=song(batch_size=1))
    async with asyncio.timeout(30):
        while True:
            first, second = await queried(http, running["task_id"], waiting["task_id"])
            elements = json.loads(first["result"])
            if [each["progress"] for each in elements] == [0.2, 0.2]:
                break
            await asyncio.sleep(0.02)
    assert [(each["status"], each["stage"]) for each in elements] == [(0, "running"), (0, "running")]
    assert first["progress_text"] == "1 of 2: running, 0.2 s of 1 s; 2 of 2: running, 0.2 s of 1 s"
    assert (second["status"], second["queue_position"], second["progress_text"]) == (0, 1, "queued, 0 ahead")
    (tmp_path / "open").touch()
    assert [(await settled(http, each["task_id"]))["status"] for each in (running, waiting)] == [1, 1]


async def test_an_unknown_task_is_reported_as_failed(http: aiohttp.ClientSession) -> None:
    known = (await released(http, json=song(batch_size=1)))["task_id"]
    wrong = ["nope", known[:-3] + ("1" if known[-3] == "0" else "0") + known[-2:], known[:-1] + "f", known.upper()]
    for task, entry in zip(wrong, await queried(http, *wrong), strict=True):
        assert (entry["task_id"], entry["status"]) == (task, 2)
        assert "no " in entry["error"]
        assert json.loads(entry["result"])[0]["error"] == entry["error"]


async def test_a_task_whose_engine_fails_is_reported_with_the_reason(http: aiohttp.ClientSession) -> None:
    data = await released(http, json=song(batch_size=1, params={"fault": {"kind": "raise", "times": 99}}))
    entry = await settled(http, data["task_id"])
    assert entry["status"] == 2
    assert "as requested" in entry["error"]
    assert json.loads(entry["result"])[0]["file"] == ""


async def test_seeds_of_the_request_are_used(http: aiohttp.ClientSession) -> None:
    for seed, expected in ((7, ["7", "8", "9"]), ("4,5", ["4", "5", "6"]), ([1, 2, 3, 4], ["1", "2", "3"])):
        body = song(batch_size=3, use_random_seed=False, seed=seed, audio_duration=0.1)
        entry = await settled(http, (await released(http, json=body))["task_id"])
        assert [each["seed_value"] for each in json.loads(entry["result"])] == expected


async def test_an_idempotency_key_is_one_task(http: aiohttp.ClientSession) -> None:
    headers = {"Idempotency-Key": "k"}
    tasks = {(await released(http, json=song(), headers=headers))["task_id"] for _ in range(2)}
    assert len(tasks) == 1


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (song(prompt=""), 400, "prompt: "),
        (song(audio_duration="long"), 400, "audio_duration: must be a number"),
        (song(audio_duration="nan"), 400, "audio_duration: must be a number"),
        (song(audio_duration=36_001), 400, "audio_duration: 36001"),
        (song(batch_size=9), 400, "batch_size: must be a whole number from 1 to 8"),
        (song(batch_size=1.5), 400, "batch_size: "),
        (song(seed="x", use_random_seed=False), 400, "seed: "),
        (song(audio_format="wma"), 400, "audio_format: 'wma'"),
        (song(task_type="cover"), 400, "task_type: tone supports text2music"),
        (song(src_audio_path="/etc/passwd"), 400, "src_audio_path: tone takes no audio as input"),
        (song(param_obj="{"), 400, "param_obj: "),
        (song(params=[]), 400, "params: must be an object"),
        ([], 400, "not an object"),
    ],
    ids=range(13),
)
async def test_an_invalid_task_is_refused_with_a_detail(
    http: aiohttp.ClientSession, body: object, status: int, words: str
) -> None:
    async with http.post("/release_task", json=body) as answer:
        refusal = await answer.json()
        assert (answer.status, list(refusal)) == (status, ["detail"]), refusal
    assert words in refusal["detail"]


@pytest.mark.parametrize(
    ("kind", "data", "status"),
    [
        ("application/json", b"{", 400),
        ("application/json", b"\xff", 400),
        ("text/plain", b"prompt=x", 415),
        ("multipart/form-data; boundary=x", b"--x\r\nnonsense", 400),
        ("multipart/form-data", b"--x", 400),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused(
    http: aiohttp.ClientSession, kind: str, data: bytes, status: int
) -> None:
    async with http.post("/release_task", data=data, headers={"Content-Type": kind}) as answer:
        assert (answer.status, list(await answer.json())) == (status, ["detail"])


async def test_a_file_in_a_form_is_refused_and_not_ignored(http: aiohttp.ClientSession) -> None:
    form = aiohttp.FormData({"prompt": "a tone", "model": "tone"})
    form.add_field("ref_audio", b"RIFF", filename="x.wav")
    async with http.post("/release_task", data=form) as answer:
        assert (answer.status, "ref_audio" in (await answer.json())["detail"]) == (400, True)


@pytest.mark.parametrize("listed", ["x", "[1]", 7, None, ["x"] * 101])
async def test_an_invalid_list_of_tasks_is_refused(http: aiohttp.ClientSession, listed: object) -> None:
    async with http.post("/query_result", json={"task_id_list": listed}) as answer:
        assert (answer.status, list(await answer.json())) == (400, ["detail"])


async def test_a_list_of_tasks_may_be_text(http: aiohttp.ClientSession) -> None:
    async with http.post("/query_result", data={"task_id_list": '["a", "b"]'}) as answer:
        assert [each["task_id"] for each in (await answer.json())["data"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/etc/passwd", 403),
        ("/jobs/../etc/passwd", 403),
        ("/jobs/..%2f..%2fetc/passwd", 403),
        ("..\\x.wav", 403),
        ("jobs/x.wav", 403),
        ("", 403),
        ("/jobs/unknown.wav", 404),
        ("/jobs/unknown.exe", 404),
        ("/jobs/a/b.wav", 404),
        (None, 400),
    ],
)
async def test_a_path_names_a_job_or_is_refused(http: aiohttp.ClientSession, path: str | None, status: int) -> None:
    query = "" if path is None else f"?path={quote(path, safe='')}"
    async with http.get(f"/v1/audio{query}") as answer:
        assert (answer.status, list(await answer.json())) == (status, ["detail"])


async def test_a_file_can_be_downloaded_while_it_is_made(http: aiohttp.ClientSession) -> None:
    data = await released(http, json=song(batch_size=1, audio_duration=1, params=STEADY))
    async with http.get(f"/v1/audio?path={quote('/jobs/' + data['task_id'] + '-0.wav')}") as answer:
        assert wav_pcm(await answer.read()) == tone_pcm(1)


async def test_a_format_is_in_the_path_of_the_file(http: aiohttp.ClientSession) -> None:
    entry = await settled(http, (await released(http, json=song(batch_size=1, audio_format="mp3")))["task_id"])
    (element,) = json.loads(entry["result"])
    assert parse_qs(urlsplit(element["file"]).query)["path"][0].endswith(".mp3")
    async with http.get(element["file"]) as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (200, "audio/mpeg")
        assert len(await answer.read()) > 1000


async def _stats(http: aiohttp.ClientSession) -> dict[str, Any]:
    """The stats once every task has ended."""
    async with asyncio.timeout(30):
        while True:
            async with http.get("/v1/stats") as answer:
                stats: dict[str, Any] = (await answer.json())["data"]
            if not stats["jobs"]["queued"] + stats["jobs"]["running"]:
                return stats
            await asyncio.sleep(0.02)


async def test_stats_count_the_jobs_of_this_dialect(http: aiohttp.ClientSession) -> None:
    before = (await _stats(http))["jobs"]
    await released(http, json=song(audio_duration=0.1))
    await released(http, json=song(batch_size=1, params={"fault": {"kind": "raise", "times": 99}}))
    async with http.post("/v1/jobs", json={"model": "tone", "input": "x"}) as answer:
        assert answer.status == 202
    after = await _stats(http)
    more = {name: count - before[name] for name, count in after["jobs"].items()}
    assert more == {"total": 3, "queued": 0, "running": 0, "succeeded": 2, "failed": 1}
    assert (after["queue_size"], after["avg_job_seconds"] > 0) == (0, True)


@pytest.fixture
async def keyed(stack: Stack, http: aiohttp.ClientSession) -> dict[str, str]:
    """Headers of a key that may have one job at a time, of a tenant without any, once the gateway knows it."""
    async with open_bus(stack.settings, "test") as bus:
        _, text = await Keys(bus).create(f"acme-{secrets.token_hex(4)}", Limits(concurrent_jobs=1))
    headers = {"Authorization": text}  # without a scheme, as some of its clients send it
    async with asyncio.timeout(30):
        while (await http.get("/v1/jobs", headers=headers)).status != 200:
            await asyncio.sleep(0.02)
    return headers


async def test_a_task_that_is_refused_in_part_leaves_no_job(http: aiohttp.ClientSession, keyed: dict[str, str]) -> None:
    body = song(audio_duration=600, params=STEADY)
    async with http.post("/release_task", json=body, headers=keyed) as answer:
        assert (answer.status, list(await answer.json())) == (429, ["detail"])
        assert int(answer.headers["Retry-After"]) > 0
    async with http.get("/v1/jobs", headers=keyed) as answer:
        assert [job["state"] for job in (await answer.json())["jobs"]] == ["cancelled"]


async def test_a_task_of_another_tenant_is_unknown(http: aiohttp.ClientSession, keyed: dict[str, str]) -> None:
    task = (await released(http, json=song(batch_size=1), headers=keyed))["task_id"]
    (entry,) = await queried(http, task)
    assert (entry["status"], "no job" in entry["error"]) == (2, True)
    async with http.get(f"/v1/audio?path={quote(f'/jobs/{task}-0.wav')}") as answer:
        assert answer.status == 404
