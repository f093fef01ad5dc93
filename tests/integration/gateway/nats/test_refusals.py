"""Requests to the NATS API that cannot be served: each is refused by headers and body."""

import pytest
from nats.aio.client import Client

from tests.support import nats_asking
from tests.support.nats_asking import WHOLE, Stack
from tests.support.nats_cli import nats_req
from tests.support.waiting import eventually

stack = nats_asking.stack()
cli = nats_asking.cli()

BAD: list[tuple[bytes, dict[str, str], int, str, list[str]]] = [
    (b"\xff\xfe\x00garbage", {}, 400, "", ["not JSON"]),
    (b"", {}, 400, "", ["empty"]),
    (b'{"input":"x"', {}, 400, "", ["not JSON"]),
    (b'{"input":"x","seed":NaN}', {}, 400, "", ["NaN"]),
    (b'{"input":"\xff"}', {}, 400, "", ["UTF-8"]),
    (b"[" * 100_000, {}, 400, "", ["nested"]),
    (b"[]", {}, 422, "", ["[]"]),
    (b"{}", {}, 422, "input", ["empty"]),
    (b'{"input":7}', {}, 422, "input", ["7"]),
    (b'{"model":"tone","input":" "}', {}, 422, "input", ["empty"]),
    (b'{"model":"tonne","input":"x"}', {}, 404, "model", ["'tonne'", "did you mean 'tone'"]),
    (b'{"model":"tone","input":"x","vioce":"a"}', {}, 422, "vioce", ["did you mean 'voice'"]),
    (b'{"model":"tone","input":"x","tenant":"other"}', {}, 422, "tenant", ["'other'", "'public'"]),
    (b'{"model":"tone","input":"x","id":"a.b"}', {}, 422, "id", ["'a.b'"]),
    (b'{"model":"tone","input":"x","id":"q7"}', {}, 422, "id", ["'q7'"]),
    (b'{"model":"tone","input":"x","seed":-1}', {}, 422, "seed", ["-1", "9223372036854775807"]),
    (b'{"model":"tone","input":"x","params":{"seconds":1e9}}', {}, 422, "params.seconds", ["36000"]),
    (b'{"model":"tone","input":"x"}', {"Antiphon-Encodng": "json"}, 422, "Antiphon-Encodng", ["Antiphon-Encoding"]),
    (b'{"model":"tone","input":"x"}', {"Antiphon-Encoding": "xml"}, 422, "Antiphon-Encoding", ["'xml'"]),
    (b'{"model":"tone","input":"x"}', {"Antiphon-Seed": "seven"}, 422, "Antiphon-Seed", ["'seven'"]),
    (b'{"model":"tone","input":"x"}', {"Antiphon-Model": "speech"}, 422, "model", ["tone", "speech"]),
    (b'{"model":"tone","input":"x"}', {"Authorization": f"Bearer ak-0123456789ab-{'x' * 43}"}, 401, "", ["key"]),
]


@pytest.mark.parametrize(("body", "headers", "status", "path", "words"), BAD)
async def test_an_error_has_headers_and_a_body_and_ends_the_reply(
    stack: Stack, cli: Client, body: bytes, headers: dict[str, str], status: int, path: str, words: list[str]
) -> None:
    answer = await nats_req(cli, stack.submit, body, headers, **WHOLE)
    assert len(answer) == 2
    problem = answer.json(0)
    assert (answer.header(0, "Nats-Service-Error-Code"), problem["status"], problem.get("path", "")) == (
        str(status),
        status,
        path,
    )
    assert all(word in problem["detail"] for word in words), problem["detail"]
    assert answer.header(0, "Nats-Service-Error")
    assert answer.replies[1].data == b""


@pytest.mark.parametrize("service", ["submit", "cancel"])
@pytest.mark.parametrize(
    "inbox",
    [
        "{root}.reply.public.victim.c",
        "{root}.worker.w1.stop",
        "$JS.API.STREAM.PURGE.{ROOT}_REPLIES",
        "_INBOX\u00a0x",
        "_INBOX.*",
        "_INBOX.{root}.>",
        "a",
    ],
)
async def test_no_answer_goes_to_a_subject_that_the_caller_could_not_write_to_itself(
    stack: Stack, cli: Client, service: str, inbox: str
) -> None:
    """The server does not check a reply subject: a gateway that answered there would lend the caller its rights."""
    inbox = inbox.format(root=stack.root, ROOT=stack.root.upper())
    stream = cli.jetstream()
    messages = (await stream.stream_info(f"{stack.root.upper()}_REPLIES")).state.messages
    subscription = await cli.subscribe(inbox) if inbox.isascii() and not set(inbox) & set("$*>") else None
    subject = stack.submit if service == "submit" else f"{stack.root}.cancel.public.unknown"
    refused = len(stack.events("submit.reply_refused"))
    await cli.publish(subject, b'{"input":"x"}', reply=inbox)
    if service == "submit":
        await eventually(lambda: len(stack.events("submit.reply_refused")) == refused + 1, within_s=20)
    answer = await nats_req(cli, f"{stack.root}.cancel.public.unknown", "", timeout_s=20)  # and they are still there
    assert answer.json(0)["code"] == "not_found"
    assert subscription is None or subscription.pending_msgs == 0
    assert (await stream.stream_info(f"{stack.root.upper()}_REPLIES")).state.messages == messages
