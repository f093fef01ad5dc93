"""Who has shown no key, and sends the body that may have it, one byte at a time."""

import asyncio
from contextlib import closing

import pytest

from bus.settings import BusSettings
from gateway.dialects.acestep import request as acestep_asked
from tests.support.doors import gateway_here


@pytest.mark.parametrize("path", ["/release_task", "/query_result"])
async def test_a_stranger_is_not_waited_for_without_end(
    bus_settings: BusSettings, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(acestep_asked, "_STRANGER_S", 0.1)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{"
    async with gateway_here(bus_settings, anonymous=False) as (_, http):
        assert http._base_url is not None
        reader, writer = await asyncio.open_connection(http._base_url.host, http._base_url.port)
        with closing(writer):
            writer.write(head.encode())
            async with asyncio.timeout(20):
                assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
