"""The NATS API as the `nats` command line uses it: a plain core client, byte by byte."""

import asyncio
import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from tests.support import nats_asking
from tests.support.nats import fresh_root
from tests.support.nats_asking import STEADY, WHOLE, Stack, job, until_ended
from tests.support.nats_cli import Answer, nats_req
from tests.support.tone import tone_pcm
from tests.support.waiting import eventually

stack = nats_asking.stack()
cli = nats_asking.cli()


async def test_an_answer_is_accepted_then_the_blocks_then_done_then_an_empty_message(stack: Stack, cli: Client) -> None:
    answer = await nats_req(cli, stack.submit, job(seconds=1.5), **WHOLE)
    accepted = answer.json(0)
    assert accepted == {
        "status": "accepted",
        "job": accepted["job"],
        "live": f"{stack.root}.live.public.{accepted['job']}",
        "reply": f"{stack.root}.reply.public.{accepted['job']}.c",
    }
    assert answer.header(0, "Antiphon-Job") == accepted["job"]
    assert answer.pcm == tone_pcm(1.5)
    frames = [int(block.headers["Antiphon-Frame"]) for block in answer.of_kind("block") if block.headers]
    assert frames == [0, *(sum(len(b.data) for b in answer.of_kind("block")[:k]) // 2 for k in range(1, len(frames)))]
    assert (
        json.loads((answer.replies[1].headers or {})["Antiphon-Started"])["media"] == "audio/L16;rate=24000;channels=1"
    )
    done = answer.json(-2)
    assert (done["frames"], answer.header(-2, "Antiphon-Kind")) == (36_000, "done")
    assert (answer.replies[-1].data, answer.header(-1, "Antiphon-Event")) == (b"", "end")
    assert [reply.data == b"" for reply in answer.replies] == [False] * (len(answer) - 1) + [True]


async def test_accepted_comes_at_once_and_the_first_block_while_the_engine_is_before_its_second(
    stack: Stack, cli: Client, tmp_path: Path
) -> None:
    gate = tmp_path / "open"
    body = job(seconds=0.3, device="own", gate={"path": str(gate), "before_block": 1})

    def open_after_the_first_block(reply: Any, _: float) -> None:
        if (reply.headers or {}).get("Antiphon-Kind") == "block":
            gate.touch()

    answer = await nats_req(cli, stack.submit, body, each=open_after_the_first_block, **WHOLE)
    assert answer.replies[1].data == tone_pcm(0.1)
    assert answer.pcm == tone_pcm(0.3)


async def test_every_line_of_json_holds_whole_frames_and_the_lines_are_one_base64_text(
    stack: Stack, cli: Client
) -> None:
    body = job(seconds=0.7777, block_ms=17, compute_ms=1)
    answer = await nats_req(cli, stack.submit, body, {"Antiphon-Encoding": "json"}, **WHOLE)
    lines = [json.loads(block.data) for block in answer.of_kind("block")]
    assert [line["seq"] for line in lines] == list(range(len(lines)))
    whole = base64.b64decode("".join(line["audio"] for line in lines), validate=True)
    assert whole == tone_pcm(0.7777)
    at = 0
    for line in lines:
        assert line["frame"] == at
        at += len(base64.b64decode(line["audio"])) // 2
    assert len(lines) > 2
    assert b"\n" not in b"".join(reply.data for reply in answer.replies)


@pytest.mark.parametrize("tool", ["jq", "grep"])
async def test_the_documented_pipe_makes_pcm_of_the_output_of_the_command(stack: Stack, cli: Client, tool: str) -> None:
    if tool == "jq" and shutil.which("jq") is None:
        pytest.skip("this machine has no jq")
    pipes = {
        "jq": "jq -Rrj 'fromjson? | .audio // empty' | base64 -d",
        "grep": "grep -o '\"audio\":\"[^\"]*' | cut -d'\"' -f4 | tr -d '\\n' | base64 -d",
    }
    body = job(seconds=3.21, block_ms=23)
    answer = await nats_req(cli, stack.submit, body, {"Antiphon-Encoding": "json"}, **WHOLE)
    pipe = await asyncio.create_subprocess_exec(
        *("sh", "-c", pipes[tool]), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert (await pipe.communicate(answer.printed()))[0] == tone_pcm(3.21)


async def test_a_job_that_fails_ends_with_its_error_in_headers_too(stack: Stack, cli: Client) -> None:
    body = job(seconds=1, fault={"kind": "raise", "at_block": 3}, **STEADY)
    answer = await nats_req(cli, stack.submit, body, **WHOLE)
    assert answer.header(-2, "Antiphon-Kind") == "failed"
    assert answer.header(-2, "Nats-Service-Error-Code") == "502"
    assert answer.json(-2)["code"] == "engine_failed"
    assert tone_pcm(1).startswith(answer.pcm)
    assert answer.replies[-1].data == b""


async def test_a_plain_req_receives_accepted_and_its_leaving_ends_the_job(stack: Stack, cli: Client) -> None:
    answer = await nats_req(cli, stack.submit, job(seconds=600, **STEADY))
    assert len(answer) == 1
    assert await until_ended(cli, stack.root, answer.json(0)["job"]) == "cancelled"


@pytest.mark.slow
async def test_the_commands_own_reply_timeout_gives_up_on_a_silent_job_which_is_leaving(
    stack: Stack, cli: Client, tmp_path: Path
) -> None:
    """300 ms between replies is the command's default: hence `--reply-timeout` in every documented command."""
    body = job(seconds=600, device="own", gate={"path": str(tmp_path / "never"), "before_block": 0})
    answer = await nats_req(cli, stack.submit, body, wait_for_empty=True)
    assert len(answer) == 1
    # The first message after 10 s of silence shows that the caller has left, not only the second one.
    assert await until_ended(cli, stack.root, answer.json(0)["job"], within_s=19) == "cancelled"


async def test_a_job_that_runs_on_outlives_its_caller(stack: Stack, cli: Client) -> None:
    answer = await nats_req(cli, stack.submit, job({"run_on": True}, seconds=1, **STEADY))
    assert len(answer) == 1
    assert await until_ended(cli, stack.root, answer.json(0)["job"]) == "done"


async def test_a_repeated_id_gets_the_same_audio_and_is_refused_with_another_body(stack: Stack, cli: Client) -> None:
    body = job({"id": f"again-{fresh_root()}"}, seconds=0.4)
    answers: list[Answer] = [await nats_req(cli, stack.submit, body, **WHOLE) for _ in range(2)]
    assert [answer.pcm for answer in answers] == [tone_pcm(0.4)] * 2
    other = json.loads(body) | {"seed": 8}
    refused = await nats_req(cli, stack.submit, json.dumps(other), **WHOLE)
    assert (refused.json(0)["status"], refused.json(0)["code"], len(refused)) == (409, "conflict", 2)


async def test_headers_say_the_same_as_fields_of_the_body(stack: Stack, cli: Client) -> None:
    job_id = f"headed-{fresh_root()}"
    headers = {"Antiphon-Id": job_id, "Antiphon-Model": "tone", "Antiphon-Seed": "7", "Antiphon-Run-On": "true"}
    by_header = await nats_req(cli, stack.submit, '{"input":"x"}', headers, **WHOLE)
    whole = {"id": job_id, "model": "tone", "input": "x", "seed": 7, "run_on": True, "tenant": "public"}
    by_body = await nats_req(cli, stack.submit, json.dumps(whole | {"client": {"api": "nats"}}), **WHOLE)
    assert by_header.json(0) == by_body.json(0)
    assert by_header.pcm == by_body.pcm == tone_pcm(2.0)


async def test_submit_with_a_tenant_speaks_for_that_tenant(stack: Stack, cli: Client) -> None:
    answer = await nats_req(cli, f"{stack.submit}.t1", job(seconds=0.2), **WHOLE)
    assert answer.json(0)["live"] == f"{stack.root}.live.t1.{answer.json(0)['job']}"
    assert answer.pcm == tone_pcm(0.2)


async def test_two_gateways_share_the_requests_and_answer_each_once(stack: Stack, cli: Client) -> None:
    before = [len(gateway.events("submit.refused")) for gateway in stack.gateways]
    answers = await asyncio.gather(*(nats_req(cli, stack.submit, b"{}", **WHOLE) for _ in range(40)))
    assert [len(answer) for answer in answers] == [2] * 40
    await eventually(lambda: len(stack.events("submit.refused")) >= sum(before) + 40, within_s=20)
    shares = [len(g.events("submit.refused")) - b for g, b in zip(stack.gateways, before, strict=True)]
    assert sum(shares) == 40
    assert min(shares) > 0


@pytest.mark.parametrize("state", ["running", "done", "unknown"])
async def test_cancel_is_a_request_that_one_message_answers(stack: Stack, cli: Client, state: str) -> None:
    job_id = f"c-{fresh_root()}"
    if state != "unknown":
        seconds = 600 if state == "running" else 0.1
        body = job({"id": job_id, "run_on": True}, seconds=seconds, **STEADY)
        await nats_req(cli, stack.submit, body, **({"replies": 2} if state == "running" else WHOLE))
    answer = await nats_req(cli, f"{stack.root}.cancel.public.{job_id}", "", timeout_s=20)
    if state == "unknown":
        assert (answer.header(0, "Nats-Service-Error-Code"), answer.json(0)["code"]) == ("400", "not_found")
    else:
        assert answer.json(0) == {"id": job_id, "state": "cancelled" if state == "running" else "done"}
