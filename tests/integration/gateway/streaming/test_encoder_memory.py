"""Live streams whose encoder takes megabytes: all of them fit into the memory that clients share."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from tests.support.doors import gated
from tests.support.fleets import small_bus
from tests.support.programs import fleet_of

pytestmark = pytest.mark.slow

#: Two encoders of FLAC, of which one tenant alone may have both, and no third.
BUFFER_BYTES = 16 << 20
WITHIN_S = 60.0


@pytest.mark.parametrize("fields", [{}, {"stream_format": "sse"}], ids=["body", "events"])
async def test_a_third_flac_waits_for_memory_and_others_are_streamed(
    nats_url: str, tmp_path: Path, fields: dict[str, str]
) -> None:
    with fleet_of(small_bus(nats_url)) as fleet:
        fleet.worker("w1", "tone", 8)
        _, url = fleet.gateway("--buffer-bytes", str(BUFFER_BYTES))
        gate = tmp_path / "gate"

        def request(number: int, codec: str) -> dict[str, object]:
            params = gated(gate, 10, seconds=2.0)
            body = {"model": "tone", "input": f"{number}", "response_format": codec, "params": params}
            return body | fields

        async with aiohttp.ClientSession() as http, asyncio.timeout(WITHIN_S):
            speech = f"{url}/v1/audio/speech"
            while not (await (await http.get(f"{url}/v1/models")).json())["data"]:
                await asyncio.sleep(0.05)
            first, second = [await http.post(speech, json=request(number, "flac")) for number in range(2)]
            assert (first.status, second.status) == (200, 200)
            plain = await http.post(speech, json=request(2, "mp3"))
            assert plain.status == 200
            async with http.post(speech, json=request(3, "flac")) as refused:
                assert refused.status == 429, await refused.text()
                assert "buffer_bytes" in await refused.text()
            gate.touch()
            for answer in (first, second, plain):
                await answer.read()
            async with http.post(speech, json=request(4, "flac")) as served:  # what the others held is free
                assert served.status == 200
                assert len(await served.read()) > 0
