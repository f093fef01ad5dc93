"""The cluster of `antiphon up --nats-nodes 3`, seen from a test: who leads, who runs where; and a load that checks itself."""

import asyncio
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import ClientSession

from bus.jobs.client import Bus
from ops.local import nats_server
from tests.support.tone import tone_pcm
from tests.support.web import OWN_RUN, speech


class Cluster:
    """The servers of an `up` on `state`."""

    def __init__(self, state: Path, bus: Bus) -> None:
        self._folders = {folder.name: folder for folder in sorted((state / "nats").glob("n?"))}
        self._bus = bus

    @property
    def names(self) -> list[str]:
        return list(self._folders)

    def pid(self, name: str) -> int:
        """Of the server that runs now, or ran last."""
        (ports,) = (self._folders[name] / "run").glob("nats-server_*.ports")
        return int(ports.stem.rpartition("_")[2])

    async def leader(self, stream: str) -> str:
        """The name of the server that leads `stream`, all of whose copies are up to date."""
        async with asyncio.timeout(30):
            while True:
                cluster = (await self._bus.js.info(stream))["cluster"]
                if cluster.get("leader") and all(copy.get("current") for copy in cluster["replicas"]):
                    return str(cluster["leader"])
                await asyncio.sleep(0.1)

    async def healthy(self) -> None:
        """Until every server is there and up to date."""
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(self._is_healthy):
                await asyncio.sleep(0.1)

    def _is_healthy(self) -> bool:
        try:
            return all(nats_server.ready(folder, self.pid(name)) for name, folder in self._folders.items())
        except ValueError:  # one is between two lives
            return False

    def kill(self, name: str) -> None:
        os.kill(self.pid(name), signal.SIGKILL)


@dataclass
class Tally:
    """What one listener met."""

    whole: int = 0
    refused: int = 0
    #: Ids of jobs that were begun and did not come whole, each with what came.
    broken: list[str] = field(default_factory=list)


class Load:
    """Streams at real-time pace and short ones, each checked to the last sample, again and again until `stop`."""

    def __init__(self, http: ClientSession, url: str) -> None:
        self._http = http
        self._url = url
        self.stopping = asyncio.Event()
        self.real_time = Tally()
        self.short = Tally()
        #: By real-time stream, the monotonic (from, to) of each silence in it.
        self.gaps: dict[int, list[tuple[float, float]]] = {}

    async def run(self, num_real_time: int, num_short: int, seconds: float) -> None:
        """Return when all streams begun before `stopping` have ended."""
        async with asyncio.TaskGroup() as group:
            for number in range(num_real_time):
                gaps = self.gaps[number] = []
                group.create_task(self._again(self.real_time, seconds, gaps, compute_ms=100, device="own"))
            for _ in range(num_short):
                group.create_task(self._again(self.short, 0.3, [], device="own"))

    async def _again(self, tally: Tally, seconds: float, gaps: list[tuple[float, float]], **params: object) -> None:
        while not self.stopping.is_set():
            await self._once(tally, seconds, gaps, params)

    async def _once(
        self, tally: Tally, seconds: float, gaps: list[tuple[float, float]], params: dict[str, object]
    ) -> None:
        pcm, at = b"", time.monotonic()
        asked = {"json": speech(seconds=seconds, **params), "headers": OWN_RUN}
        async with self._http.post(f"{self._url}/v1/audio/speech", **asked) as response:
            if response.status != 200:
                assert response.status == 503, await response.text()
                tally.refused += 1
                return
            try:
                async for piece in response.content.iter_any():
                    now = time.monotonic()
                    if pcm:
                        gaps.append((at, now))
                    pcm, at = pcm + piece, now
            except OSError as error:
                tally.broken.append(f"{response.headers['Antiphon-Job']}: {len(pcm)} bytes, then {error!r}")
                return
            if pcm == tone_pcm(seconds):
                tally.whole += 1
            else:
                tally.broken.append(f"{response.headers['Antiphon-Job']}: {len(pcm)} bytes")

    async def received_again(self, since: float) -> None:
        """Until every real-time stream has spoken twice since then."""
        async with asyncio.timeout(60):
            while not all(any(begun >= since for begun, _ in gaps) for gaps in self.gaps.values()):
                await asyncio.sleep(0.05)

    def pause_s(self, since: float) -> float:
        """The longest silence in a real-time stream that ended after `since`."""
        return max(end - begun for gaps in self.gaps.values() for begun, end in gaps if end >= since)
