"""The marks of each word, by every API: the same in the events, in the list and over NATS."""

import json
from pathlib import Path
from typing import Any

import aiohttp
import nats
import pytest

from tests.support import fleets
from tests.support.doors import Events, accepted, gated, tone, until_state
from tests.support.fleets import Stack
from tests.support.nats_asking import WHOLE
from tests.support.nats_cli import nats_req

TEXT = "Schöne Grüße 😀 aus Köln. Und noch ein zweiter, längerer Satz, damit mehr als ein Eintrag entsteht."
SPOKEN = ["Schöne", "Grüße", "😀", "aus", "Köln", "Und", "noch", "ein", "zweiter", "längerer", "Satz"]
JOB = {"model": "speech", "voice": "de", "input": TEXT}

#: Does one job at a time.
stack = fleets.stack("speech,tone", 1)
http = fleets.http()


async def marks_of(http: aiohttp.ClientSession, job: str) -> dict[str, Any]:
    async with http.get(f"/v1/jobs/{job}/marks") as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["Antiphon-Job"] == job
        body: dict[str, Any] = await answer.json()
        return body


async def test_words_and_sentences_have_their_seconds_live_and_afterwards(http: aiohttp.ClientSession) -> None:
    job = await accepted(http, JOB)
    async with http.get(f"/v1/jobs/{job}/events") as answer:
        events = await Events(answer).rest()
    live = [event for event in events if event["event"] == "marks"]
    assert len(live) > 1, "as the sound grows"
    marks = [mark for event in live for mark in event["data"]["marks"]]
    words = [mark for mark in marks if mark["kind"] == "word"]
    assert [mark["text"] for mark in words][: len(SPOKEN)] == SPOKEN
    assert all(TEXT[mark["start"] :].startswith(mark["text"]) for mark in words)
    sentences = [TEXT[mark["start"] :][: mark["length"]] for mark in marks if mark["kind"] == "sentence"]
    assert sentences == [TEXT[:24], TEXT[25:]]
    assert [mark["frame"] for mark in marks] == sorted(mark["frame"] for mark in marks)
    assert all(mark["at_s"] == pytest.approx(mark["frame"] / 22_050, abs=1e-4) for mark in marks)
    body = await marks_of(http, job)
    assert (body["id"], body["state"], body["rate_hz"], body["marks"]) == (job, "done", 22_050, marks)
    assert body["frames"] == events[-1]["data"]["frames"] > marks[-1]["frame"]
    # A client that resumes in the middle has missed the entry with the rate, and still gets the rest.
    async with http.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": live[0]["id"]}) as answer:
        again = [event for event in await Events(answer).rest() if event["event"] == "marks"]
    assert again == live[1:]


async def test_a_caller_over_nats_gets_the_same_marks_as_headers_or_in_its_lines(
    http: aiohttp.ClientSession, stack: Stack
) -> None:
    client = await nats.connect(stack.settings.nats)
    body, submit = json.dumps({**JOB, "id": "words"}), f"{stack.settings.root}.submit"
    lined = await nats_req(client, submit, body, {"Antiphon-Encoding": "json"}, **WHOLE)
    raw = await nats_req(client, submit, body, **WHOLE)
    await client.close()
    lines = [json.loads(block.data) for block in lined.of_kind("block")]
    in_lines = [mark for line in lines for mark in line.get("marks", [])]
    in_headers = [json.loads((block.headers or {}).get("Antiphon-Marks", "[]")) for block in raw.of_kind("block")]
    body = [
        [mark["frame"], mark["kind"], mark["start"], mark["length"]]
        for mark in (await marks_of(http, "words"))["marks"]
    ]
    assert in_lines == body
    assert [mark for marks in in_headers for mark in marks] == body
    assert len(body) > len(SPOKEN)


async def test_a_job_that_waits_or_makes_no_words_has_no_marks(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    first = await accepted(http, tone(params=gated(gate, 1, seconds=0.3)))
    await until_state(http, first, "running")
    waiting = await accepted(http, JOB)
    assert (await marks_of(http, waiting)) == {
        "id": waiting,
        "state": "queued",
        "rate_hz": None,
        "frames": 0,
        "marks": [],
    }
    gate.touch()
    await until_state(http, waiting, "done")
    assert len((await marks_of(http, waiting))["marks"]) > len(SPOKEN)
    assert (await marks_of(http, first))["marks"] == []
    async with http.get(f"/v1/jobs/{first}/events") as answer:
        assert all(event["event"] != "marks" for event in await Events(answer).rest())
    async with http.get("/v1/jobs/nobody/marks") as answer:
        assert (answer.status, (await answer.json())["code"]) == (404, "not_found")
