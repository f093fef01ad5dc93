"""Data that is no HTTP, or exceeds the limits: refused with a problem that repeats nothing of the request."""

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import closing
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

import pytest

from bus.settings import BusSettings
from tests.support.nats import fresh_root
from tests.support.programs import Program, fleet_of

KEY = b"ak-f8c6142c36f0-whisper"
LONG = KEY + b"x" * 9000
POST = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
GZIP = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: 44\r\n\r\n"


@pytest.fixture(scope="module")
def gateway(nats_url: str) -> Iterator[tuple[Program, str]]:
    settings = BusSettings(nats=nats_url, root=fresh_root(), jobs_max_bytes=64 << 20, replies_max_bytes=256 << 20)
    with fleet_of(settings) as fleet:
        yield fleet.gateway()


def get(path: bytes = b"/livez", *headers: bytes) -> bytes:
    return b"\r\n".join([b"GET " + path + b" HTTP/1.1", b"Host: localhost", *headers, b"", b""])


async def exchange(
    gateway: tuple[Program, str], *parts: bytes, pause_s: float = 0.0
) -> tuple[int, dict[str, str], bytes, bytes]:
    """Status, headers and body of the first response, and all data read; the connection must end after it."""
    host, port = gateway[1].removeprefix("http://").split(":")
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection(host, int(port))
        with closing(writer):
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause_s)
            data = await reader.read()
    head, _, body = data.partition(b"\r\n\r\n")
    line, _, rest = head.partition(b"\r\n")
    headers = {name.lower(): value for name, value in BytesParser(policy=HTTP).parsebytes(rest).items()}
    return int(line.split()[1]), headers, body, data


@pytest.mark.parametrize(
    ("sent", "status", "code", "words"),
    [
        (get(b"/v1/audio/speech?api_key=" + LONG), 414, "too_large", ["request line", "8190 bytes"]),
        (get(b"/livez", b"Authorization: Bearer " + LONG), 431, "too_large", ["header", "8192 bytes"]),
        (get(b"/livez", LONG + b": x"), 431, "too_large", ["header", "8192 bytes"]),
        (get(b"/livez", *[b"X-%d: 1" % n for n in range(200)]), 431, "too_large", ["128 headers"]),
        (KEY + b" / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "malformed", ["no HTTP method"]),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "malformed", ["without TLS"]),
        (b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", 400, "malformed", ["request line"]),
        (b"GET http://[" + KEY + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "malformed", ["request line"]),
        (get(b"/livez", KEY), 400, "malformed", ["header"]),
        (get(b"/livez", b"X: " + KEY + b"\0"), 400, "malformed", ["header"]),
        (get(b"/livez", b"Content-Length: " + KEY), 400, "malformed", ["length"]),
        (POST + KEY + b"\r\n", 400, "malformed", ["chunk"]),
    ],
)
async def test_a_request_that_cannot_be_read_is_a_problem_that_names_the_limit_and_not_the_value(
    gateway: tuple[Program, str], sent: bytes, status: int, code: str, words: list[str]
) -> None:
    found, headers, body, data = await exchange(gateway, sent)
    assert (found, headers["content-type"]) == (status, "application/problem+json")
    problem: dict[str, Any] = json.loads(body)
    assert (problem["status"], problem["code"], problem["retryable"]) == (status, code, False)
    assert [word for word in words if word not in problem["detail"]] == []
    assert b"whisper" not in data
    event = await asyncio.to_thread(_refused, gateway[0], headers["x-request-id"])
    assert event["status"] == status
    assert "whisper" not in gateway[0].log()
    assert "Traceback" not in gateway[0].log()


async def test_the_longest_request_line_and_header_that_are_read_are_served(gateway: tuple[Program, str]) -> None:
    path = b"/livez?" + b"x" * (8190 - len(b"/livez?"))
    header = b"Authorization: " + b"x" * (8192 - len(b"Authorization"))
    assert (await exchange(gateway, get(path, header, b"Connection: close")))[0] == 200
    assert (await exchange(gateway, get(path + b"x")))[0] == 414
    assert (await exchange(gateway, get(b"/livez", b"X: " + b"x" * 8193)))[0] == 431


@pytest.mark.parametrize(
    "parts",
    [
        [POST + b"2\r\n{}\r\n" + KEY + b"\r\n"],
        [POST, KEY + b"\r\n"],
        [POST, b"2\r\n{}\r\n", KEY + b"\r\n"],
        [POST + b"9\r\n{}", b"       " + KEY, get()],
        [GZIP, KEY, KEY],
    ],
    ids=range(5),
)
async def test_a_body_that_turns_out_to_be_no_http_is_refused_and_not_waited_for(
    gateway: tuple[Program, str], parts: list[bytes]
) -> None:
    """However far the request has come: each part is sent when the one before it has been read."""
    found, headers, body, data = await exchange(gateway, *parts, pause_s=0.2)
    assert (found, headers["content-type"]) == (400, "application/problem+json")
    assert json.loads(body)["code"] == "malformed"
    assert (len(re.findall(rb"HTTP/1\.[01] \d", data)), b"whisper" in data) == (1, False)
    assert gateway[0].events("http.failed") == []
    assert "Traceback" not in gateway[0].log()


def _refused(program: Program, quoted: str) -> dict[str, Any]:
    for count in range(1, 100):
        event = program.wait_for("http.refused", count, within_s=30)
        if event["request"] == quoted:
            return event
    raise AssertionError(f"nothing was logged of {quoted}")
