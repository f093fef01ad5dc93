"""Every header that the code reads, with nonsense in it, at every API and socket: no fault of ours, and no traceback."""

import ast
import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from aiohttp import hdrs

from bus.settings import BusSettings
from tests.support.nats import fresh_root
from tests.support.programs import Program, fleet_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[4]
READS = {"get", "getall", "getone"}
NONSENSE = {
    "a byte": b"\xff",
    "a surrogate": b"\xed\xa0\x80",
    "half a character": b"ab\xe2\x82",
    "another script": "ключ Ω 🎵".encode(),
    "100 KB": b"x" * 100_000,
    "8 KB": b"y" * 8000,
    "half an address": b"http://[",
    "no address": b"https://[::1%25:99999]:x/%zz?#",
    "a port": b"http://localhost:99999999999",
    "nothing": b"",
    "commas": b",;=,;=\",'," * 50,
    "numbers": b"9" * 400,
    "a range": b"bytes=99999999999999999999-1,-0,x",
    "a control": b"a\x01b\x7f",
    "websocket": b"websocket",
    "a key": b"Bearer ak-000000000000-" + b"\xff" * 43,
    "a token": b"Bearer ey\xff.ey\xff.\xff",
}
#: One request of each API, its unknown path and its sockets.
REQUESTS = {
    "native": "POST /v1/jobs",
    "a job": "GET /v1/jobs/nowhere",
    "its audio": "GET /v1/jobs/nowhere/audio",
    "its events": "GET /v1/jobs/nowhere/events",
    "batch": "POST /v1/jobs:batch",
    "pages": "GET /livez",
    "openai": "POST /v1/audio/speech",
    "openai batch": "POST /v1/audio/speech/batch",
    "elevenlabs": "POST /v1/text-to-speech/tone",
    "acestep": "POST /release_task",
    "plain": "POST /generate",
    "no path": "GET /nowhere",
    "preflight": "OPTIONS /v1/jobs",
    "socket of vllm": "GET /v1/audio/speech/stream",
    "socket of elevenlabs": "GET /v1/text-to-speech/tone/stream-input",
}
SOCKET = {
    "Connection": b"Upgrade",
    "Upgrade": b"websocket",
    "Sec-WebSocket-Version": b"13",
    "Sec-WebSocket-Key": b"AAAAAAAAAAAAAAAAAAAAAA==",
}


def headers_read() -> set[str]:
    """Every name that the gateway looks up in something called headers, by `hdrs` or as a string."""
    found = set()
    for file in (ROOT / "gateway").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in READS:
                owner, names = node.func.value, node.args[:1]
            elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In):
                owner, names = node.comparators[0], [node.left]
            elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
                owner, names = node.value, [node.slice]
            else:
                continue
            if ast.unparse(owner).endswith("headers"):
                found |= {name for each in names if (name := named(each))}
    return found


def named(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Attribute):
        return str(getattr(hdrs, node.attr, ""))
    return ""


#: Those of a handshake, and of HTTP itself, are aiohttp's to read.
OF_AIOHTTP = {*SOCKET, "Expect", "Content-Type", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Cookie"}
HEADERS = sorted({name.title() for name in headers_read() | OF_AIOHTTP} | {"Xi-Api-Key", "Range", "If-Range"})


@pytest.fixture(
    scope="module",
    params=[(), pytest.param(("--cors-origins", "*"), marks=pytest.mark.slow)],
    ids=["no origins", "all origins"],
)
def gateway(request: pytest.FixtureRequest, nats_url: str) -> Iterator[tuple[Program, int]]:
    settings = BusSettings(nats=nats_url, root=fresh_root(), jobs_max_bytes=64 << 20, replies_max_bytes=256 << 20)
    with fleet_of(settings) as fleet:
        fleet.worker()
        program, url = fleet.gateway(*request.param)
        yield program, int(url.rpartition(":")[2])


def head(request: str, name: str, value: bytes) -> bytes:
    lines = {"Host": b"localhost", "Connection": b"close"}
    if "socket" in next(key for key, each in REQUESTS.items() if each == request):
        lines |= SOCKET
    if request.startswith("OPTIONS"):
        lines |= {"Origin": b"http://localhost", "Access-Control-Request-Method": b"POST"}
    if request.startswith("POST"):
        lines |= {"Content-Type": b"application/json", "Content-Length": b"2"}
    lines = {key: each for key, each in lines.items() if key.title() != name} | {name: value}
    body = b"{}" if request.startswith("POST") else b""
    text = b"".join(key.encode() + b": " + each + b"\r\n" for key, each in lines.items())
    return request.encode() + b" HTTP/1.1\r\n" + text + b"\r\n" + body


async def answer(port: int, data: bytes) -> bytes:
    """What came until the other side hung up; a socket that opens is left at once."""
    async with asyncio.timeout(15):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with closing(writer):
            writer.write(data)
            found = b""
            while part := await _read(reader):
                found += part
                if found.startswith(b"HTTP/1.1 101 ") or _is_whole(found):
                    break
            return found


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(1 << 16)
    except ConnectionError:  # refused while the head was still sent
        return b""


def _is_whole(found: bytes) -> bool:
    """Whether a response is there: with a nonsense `Connection` it stays open."""
    if found.endswith(b"\r\n0\r\n\r\n") or found.startswith(b"HTTP/1.1 204 "):
        return True
    top, end, body = found.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", top)
    return bool(end) and length is not None and len(body) >= int(length[1])


def test_the_headers_are_found() -> None:
    known = {"Idempotency-Key", "Origin", "Host", "Authorization", "Accept", "Range", "Upgrade", "Content-Encoding"}
    assert known <= set(HEADERS)
    assert len(HEADERS) > 20


async def test_nonsense_in_a_header_is_no_fault_of_ours(gateway: tuple[Program, int]) -> None:
    program, port = gateway
    wrong, places, num_open = [], asyncio.Queue[tuple[str, str, str]](), 16
    for name in HEADERS:
        for kind in NONSENSE:
            for api in REQUESTS:
                places.put_nowait((name, kind, api))

    async def some() -> None:
        while not places.empty():
            name, kind, api = places.get_nowait()
            try:
                found = await answer(port, head(REQUESTS[api], name, NONSENSE[kind]))
            except TimeoutError:
                wrong.append((name, kind, api, b"no answer"))
                continue
            status = int(found.split(b" ", 2)[1]) if found.startswith(b"HTTP/1.") else 0
            if status == 500 or (status == 0 and kind != "100 KB"):
                wrong.append((name, kind, api, found[:200]))

    await asyncio.gather(*[some() for _ in range(num_open)])
    assert wrong == []
    log = program.whole_log()
    assert program.events("http.failed") == []
    assert program.events("library.logged") == []
    assert "Traceback" not in log


@pytest.mark.parametrize("api", [name for name in REQUESTS if name != "preflight"])
async def test_bytes_that_are_no_text_are_a_400_that_names_their_header(gateway: tuple[Program, int], api: str) -> None:
    found = await answer(gateway[1], head(REQUESTS[api], "Idempotency-Key", b"\xff"))
    # ElevenLabs' own clients know 422 only.
    assert found.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 422 ") if "elevenlabs" in api else b"HTTP/1.1 400 "), found
    assert b"Idempotency-Key" in found.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    ("api", "envelope"),
    [
        ("native", "status"),
        ("openai", "error"),
        ("elevenlabs", "detail"),
        ("acestep", "detail"),
        ("no path", "status"),
        ("plain", "detail"),
    ],
)
async def test_an_unknown_expectation_is_refused_in_the_apis_format(
    gateway: tuple[Program, int], api: str, envelope: str
) -> None:
    found = await answer(gateway[1], head(REQUESTS[api], "Expect", b"a-miracle"))
    assert found.startswith(b"HTTP/1.1 417 "), found
    body = json.loads(found.partition(b"\r\n\r\n")[2])
    assert envelope in body
    assert "100-continue" in json.dumps(body)
    assert b"X-Request-Id" in found


@pytest.mark.parametrize("api", [name for name, request in REQUESTS.items() if request.startswith("POST")])
@pytest.mark.parametrize("encoding", [b"xx", b"gzip, gzip", b"br"])
async def test_an_unknown_encoding_is_a_415(gateway: tuple[Program, int], api: str, encoding: bytes) -> None:
    found = await answer(gateway[1], head(REQUESTS[api], "Content-Encoding", encoding))
    assert found.startswith((b"HTTP/1.1 415 ", b"HTTP/1.0 415 ")), found
    assert b"gzip, deflate" in found


@pytest.mark.parametrize("api", ["socket of vllm", "socket of elevenlabs"])
async def test_an_unmasked_frame_closes_a_socket_with_1002(gateway: tuple[Program, int], api: str) -> None:
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway[1])
        with closing(writer):
            writer.write(head(REQUESTS[api], "Accept", b"*/*"))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            writer.write(b"\x81\x02{}")
            frames = await reader.read()
    assert b"\x88\x02\x03\xea" in frames
