"""Requests that stop in the middle: refused in the format of the API that they came by, logged and counted."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import closing

import pytest

from bus.settings import BusSettings
from tests.support.nats import fresh_root
from tests.support.programs import Program, fleet_of

POSTS = {
    "/v1/jobs": b'"code":"too_slow"',
    "/v1/jobs:batch": b'"code":"too_slow"',
    "/v1/audio/speech": b'"error":{',
    "/v1/audio/speech/batch": b'"error":{',
    "/v1/text-to-speech/tone": b'"detail":{',
    "/release_task": b'"detail":"the body',
}


@pytest.fixture(scope="module")
def gateway(nats_url: str) -> Iterator[tuple[Program, str]]:
    settings = BusSettings(nats=nats_url, root=fresh_root(), jobs_max_bytes=64 << 20, replies_max_bytes=256 << 20)
    with fleet_of(settings) as fleet:
        yield fleet.gateway("--request-head-s", "1", "--request-body-s", "1")


async def rest_of(gateway: tuple[Program, str], *parts: bytes) -> bytes:
    host, port = gateway[1].removeprefix("http://").split(":")
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(host, int(port))
        with closing(writer):
            for part in parts:
                writer.write(part)
                await writer.drain()
            return await reader.read()


def post(path: str, kind: str = "application/json") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 900000\r\n\r\n"
    return head.encode()


async def test_a_body_that_stops_is_refused_by_every_api_in_its_own_format(gateway: tuple[Program, str]) -> None:
    answers = await asyncio.gather(*[rest_of(gateway, post(path), b"{" * 70_000) for path in POSTS])
    for (path, envelope), answer in zip(POSTS.items(), answers, strict=True):
        assert answer.startswith(b"HTTP/1.1 408 "), (path, answer)
        assert envelope in re.sub(rb'":\s', b'":', answer), (path, answer)
    assert gateway[0].events("http.failed") == []
    assert "Traceback" not in gateway[0].whole_log()


async def test_a_form_that_stops_is_refused(gateway: tuple[Program, str]) -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nhel'
    answer = await rest_of(gateway, post("/release_task", "multipart/form-data; boundary=x"), form)
    assert answer.startswith(b"HTTP/1.1 408 "), answer
    assert "Traceback" not in gateway[0].whole_log()


async def test_silent_connections_and_late_heads_are_counted_and_hardly_logged(gateway: tuple[Program, str]) -> None:
    answers = await asyncio.gather(*[rest_of(gateway, part) for part in [b"", b"GET /li"] * 50])
    assert {answer.partition(b"\r\n")[0] for answer in answers} == {b"", b"HTTP/1.0 408 Request Timeout"}
    metrics = await rest_of(gateway, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    found = re.search(rb'antiphon_request_timeouts_total\{part="head"\} (\d+)', metrics)
    assert found is not None
    assert int(found[1]) >= 100
    lines = [event for event in gateway[0].events("request.timed_out") if event["level"] == "info"]
    assert len(lines) < 50
