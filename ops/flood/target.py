"""The stack that a flood is sent to, and the counts of its answers."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

#: A loop of a flood pauses this long after a refusal, so that the client does not only measure itself.
_REFUSED_S: Final = 0.02
#: Between two looks at the jobs that are left of a flood.
_POLL_S: Final = 0.2


@dataclass(slots=True)
class Tally:
    """Answers to a flood: number of each HTTP status, and of each error without one."""

    answers: Counter[str] = field(default_factory=Counter)

    @property
    def taken(self) -> int:
        """Requests that were served."""
        return sum(count for name, count in self.answers.items() if name.startswith("2"))

    @property
    def refused(self) -> int:
        """Requests that were not."""
        return self.answers.total() - self.taken


@dataclass(frozen=True, slots=True)
class Target:
    """One tenant's way to a stack."""

    session: aiohttp.ClientSession
    url: str
    #: API key of the tenant.
    key: str
    #: URL of the NATS server, for floods of the NATS API.
    nats: str = ""
    tally: Tally = field(default_factory=Tally)

    @property
    def headers(self) -> dict[str, str]:
        """Headers of every request."""
        return {"Authorization": f"Bearer {self.key}", "Cache-Control": "no-store"}

    async def post(self, path: str, body: Any) -> dict[str, Any]:
        """Send JSON and return the JSON of the answer; empty if it is a refusal. Counts the answer."""
        async with self.session.post(f"{self.url}{path}", json=body, headers=self.headers) as response:
            self.tally.answers[str(response.status)] += 1
            if response.status >= 300:
                await asyncio.sleep(_REFUSED_S)
                return {}
            return dict(await response.json())

    async def read(self, path: str) -> int:
        """GET `path` and read the whole answer; returns the status. Counts the answer."""
        async with self.session.get(f"{self.url}{path}", headers=self.headers) as response:
            self.tally.answers[str(response.status)] += 1
            if response.status >= 300:
                await asyncio.sleep(_REFUSED_S)
            async for _ in response.content.iter_any():
                pass
            return response.status

    async def repeat(self, num_loops: int, once: Callable[[], Awaitable[object]]) -> None:
        """Call `once` again and again in `num_loops` loops until cancelled. Counts its connection errors."""
        await asyncio.gather(*(self._loop(once) for _ in range(num_loops)))

    async def _loop(self, once: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await once()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self.tally.answers[type(error).__name__] += 1
                await asyncio.sleep(_REFUSED_S)

    async def cancel_jobs(self, within_s: float) -> int:
        """Cancel every job of the tenant that has not ended; returns how many are left after `within_s` seconds."""
        left: list[str] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while True:
                    try:
                        left = await self._unfinished()
                        await asyncio.gather(*(self._cancel(job) for job in left))
                    except (aiohttp.ClientError, OSError):
                        await asyncio.sleep(_POLL_S)
                        continue
                    if not left:
                        return 0
                    await asyncio.sleep(_POLL_S)
        return len(left)

    async def _unfinished(self) -> list[str]:
        found: list[str] = []
        path: str | None = "/v1/jobs?limit=100"
        while path:
            async with self.session.get(f"{self.url}{path}", headers=self.headers) as response:
                response.raise_for_status()
                page = await response.json()
            found += [job["id"] for job in page["jobs"] if job["state"] in {"queued", "running", "interrupted"}]
            path = f"/v1/jobs?limit=100&before={page['next']}" if page["next"] else None
        return found

    async def _cancel(self, job: str) -> None:
        async with self.session.delete(f"{self.url}/v1/jobs/{job}", headers=self.headers) as response:
            await response.read()
