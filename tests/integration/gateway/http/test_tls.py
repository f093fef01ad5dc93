"""A gateway that speaks TLS itself: the package that insists on it, a handshake that never ends, and the exit code."""

import asyncio
import ssl
from pathlib import Path

import aiohttp
import httpx
import pytest
from elevenlabs import ElevenLabs

from bus.settings import BusSettings
from tests.support.elevenlabs_client import GEORGE
from tests.support.fleets import small_bus
from tests.support.programs import Fleet, fleet_of
from tests.support.tls import certificate
from tests.support.tone import tone_pcm
from tests.support.web import ready


@pytest.fixture
def settings(nats_url: str) -> BusSettings:
    return small_bus(nats_url)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:ConnectionClosed.code is deprecated:DeprecationWarning")
async def test_clients_that_speak_tls_alone_are_served(
    settings: BusSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))

    def speak(url: str) -> tuple[bytes, bytes]:
        with httpx.Client(timeout=30, verify=ssl.create_default_context(cafile=str(cert))) as transport:
            client = ElevenLabs(api_key="anything", base_url=url, httpx_client=transport)
            options = {"model_id": "tone", "output_format": "pcm_24000"}
            over_http = b"".join(client.text_to_speech.stream(GEORGE, text="Hello.", **options))
            words = iter(["Hello, ", "this is written while ", "it is being spoken."])
            return over_http, b"".join(client.text_to_speech.convert_realtime(GEORGE, text=words, **options))

    with fleet_of(settings) as fleet:
        fleet.worker("w1", "tone", 2)
        _, url = fleet.gateway("--tls-cert", str(cert), "--tls-key", str(key), "--request-head-s", "1")
        assert url.startswith("https://127.0.0.1:")
        url = url.replace("127.0.0.1", "localhost")
        context = ssl.create_default_context(cafile=str(cert))
        async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(ssl=context)) as http:
            await ready(http, "")
            await _waits_for_a_slow_reader(http)
        over_http, over_socket = await asyncio.to_thread(speak, url)
        assert (over_http, over_socket) == (tone_pcm(2), tone_pcm(2))
        await _refuses_what_is_not_tls(url)


async def _waits_for_a_slow_reader(http: aiohttp.ClientSession) -> None:
    """Writers wait while nothing is read, and go on afterwards."""
    body = {"model": "tone", "input": "x", "params": {"seconds": 300}, "response_format": "pcm"}
    async with http.post("/v1/audio/speech", json=body) as answer, asyncio.timeout(60):
        await answer.content.readexactly(10)
        await asyncio.sleep(1)
        assert 10 + len(await answer.read()) == 300 * 48_000


async def _refuses_what_is_not_tls(url: str) -> None:
    """A client without TLS, and one that begins no handshake, are disconnected within the time for a head."""
    port = int(url.rpartition(":")[2])
    for sent in (b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", b""):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        async with asyncio.timeout(30):
            assert not (await reader.read()).startswith(b"HTTP")
        writer.close()


def test_a_gateway_whose_files_do_not_match_exits_with_a_usage_error(fleet: Fleet, tmp_path: Path) -> None:
    cert, _ = certificate(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    _, key = certificate(other)
    gateway, _ = fleet.gateway("--tls-cert", str(cert), "--tls-key", str(key), wait=False)
    assert gateway.process.wait(30) == 2
    assert "is not the key of the certificate" in gateway.log()


@pytest.mark.slow
async def test_a_renewed_certificate_is_served_to_new_connections_and_an_unusable_one_to_none(
    settings: BusSettings, tmp_path: Path
) -> None:
    cert, key = certificate(tmp_path)
    with fleet_of(settings) as fleet:
        gateway, url = fleet.gateway("--tls-cert", str(cert), "--tls-key", str(key))
        url = url.replace("127.0.0.1", "localhost")
        before = ssl.create_default_context(cafile=str(cert))
        async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(ssl=before, limit=1)) as old:
            await _is_alive(old)
            certificate(tmp_path)
            await asyncio.to_thread(gateway.wait_for, "tls.loaded")
            after = ssl.create_default_context(cafile=str(cert))
            async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(ssl=after, force_close=True)) as new:
                await _is_alive(new)
                await _is_alive(old)  # over its connection of before: a new one would not trust the certificate
                key.write_bytes(b"nothing")
                failed = await asyncio.to_thread(gateway.wait_for, "tls.load_failed")
                assert "has no usable private key" in failed["error"]
                for _ in range(20):
                    await _is_alive(new)
        async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(ssl=before)) as late:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await _is_alive(late)
        assert "pause_writing() failed" not in gateway.whole_log(), "TLS pauses once more as its connection closes"


async def _is_alive(http: aiohttp.ClientSession) -> None:
    async with http.get("/livez") as answer:
        assert answer.status == 200
