"""A client without a key that sends its body, which may contain the key, too slowly."""

import asyncio
from contextlib import closing

import pytest

from bus.settings import BusSettings
from gateway.dialects.acestep import request as acestep_request
from tests.support.doors import gateway_here


@pytest.mark.parametrize("path", ["/release_task", "/query_result"])
async def test_a_client_without_a_key_may_send_its_body_for_a_limited_time(
    bus_settings: BusSettings, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(acestep_request, "UNAUTHENTICATED_S", 0.1)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{"
    async with gateway_here(bus_settings, anonymous=False) as (_, http):
        async with http.get("/livez") as alive:
            host, port = alive.url.host, alive.url.port
        reader, writer = await asyncio.open_connection(host, port)
        with closing(writer):
            writer.write(head.encode())
            async with asyncio.timeout(20):
                assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
