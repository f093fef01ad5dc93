"""Keys that are malformed, sent twice, or folded into the next line."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from bus.access.keys import Keys, Limits
from bus.jobs.client import Bus
from tests.support.programs import Fleet, Program

WITHIN_S = 30.0
#: JSON nested deeper than Python's decoder allows, within the length of a header.
DEEP = base64.urlsafe_b64encode(b'{"a":' + b"[" * 2900).rstrip(b"=")


@asynccontextmanager
async def guarded(fleet: Fleet, *flags: str) -> AsyncIterator[tuple[Program, str]]:
    """A gateway that requires keys, and its URL."""
    program, url = fleet.gateway("--no-anonymous", *flags)
    async with asyncio.timeout(WITHIN_S):
        while await status_of(url, b"xi-api-key: ak-0123456789ab-unknown") == 503:  # it has not read the keys yet
            await asyncio.sleep(0.02)
    yield program, url
    assert not program.events("http.failed")


async def status_of(url: str, *headers: bytes, path: str = "/v1/jobs") -> int:
    """The status of the response to a GET with these very header lines."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        lines = [f"GET {path} HTTP/1.1".encode(), b"Host: " + address.netloc.encode(), b"Connection: close", *headers]
        writer.write(b"\r\n".join(lines) + b"\r\n\r\n")
        async with asyncio.timeout(WITHIN_S):
            return int((await reader.read()).split(b" ", 2)[1])
    finally:
        writer.close()


async def known(url: str, text: str) -> bytes:
    """The header line with a key, once the gateway knows it."""
    line = f"Authorization: Bearer {text}".encode()
    async with asyncio.timeout(WITHIN_S):
        while await status_of(url, line) != 200:
            await asyncio.sleep(0.02)
    return line


async def test_a_key_or_token_that_is_no_text_is_refused_and_not_our_fault(fleet: Fleet, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 32)
    keys = (b"ak-\xff\xfe", b"ak-0123456789ab-\x80", b"\xc3\x28")
    tokens = (b"ey\xff.a.b", DEEP + b".a.b", DEEP + b"." + DEEP + b".b")
    async with guarded(fleet, "--jwt-secret-file", str(secret)) as (_, url):
        for shown in keys + tokens:
            # A header that is no UTF-8 is refused as such.
            status = 401 if shown.isascii() else 400
            assert await status_of(url, b"Authorization: Bearer " + shown) == status, shown
            assert await status_of(url, b"xi-api-key: " + shown) == status, shown


async def test_a_header_that_came_twice_with_two_keys_is_refused(bus: Bus, fleet: Fleet) -> None:
    ours, theirs = [(await Keys(bus).create(tenant, Limits()))[1] for tenant in ("acme", "other")]
    async with guarded(fleet) as (_, url):
        bearer, other = await known(url, ours), await known(url, theirs)
        assert await status_of(url, bearer, bearer) == 200
        assert await status_of(url, bearer, other) == 401
        assert await status_of(url, other, bearer) == 401
        assert await status_of(url, f"xi-api-key: {ours}".encode(), f"xi-api-key: {theirs}".encode()) == 401
        path = f"/v1/jobs?api_key={ours}&api_key={theirs}"
        assert await status_of(url, b"Upgrade: websocket", path=path) == 401


async def test_no_log_line_has_a_key_however_it_was_sent(bus: Bus, fleet: Fleet) -> None:
    key, text = await Keys(bus).create("acme", Limits())
    async with guarded(fleet) as (program, url):
        await known(url, text)
        assert await status_of(url, f"Authorization: Bearer\r\n {text}".encode()) == 400
        assert await status_of(url, f"Authorization Bearer {text}".encode()) == 400
        assert await status_of(url, b"Authorization: Bearer \x00" + text.encode()) == 400
        await status_of(url, path=f"/v1/jobs/{text}")
        await status_of(url, path=f"/v1/audio?path=/jobs/x.mp3&api_key={text}")
        program.wait_for("http.refused", 5)
        assert text.removeprefix(f"ak-{key.id}-") not in program.whole_log()
