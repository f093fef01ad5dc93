"""Clients of every temper. Each checks every sample, and after a cut comes back for the rest by another gateway."""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import aiohttp

from bus import wire
from bus.jobs.submit import keyed_id
from ops.chaos.ledger import Heard, right_frames
from ops.chaos.orders import Order
from ops.chaos.samples import Truth

#: Refusals that say "not now".
_PASSING: Final = frozenset({"bus_unreachable", "no_worker", "storage_full"})
#: What an ended job is told as: its log stands, whatever it says.
_ENDED: Final = frozenset({"engine_failed", "interrupted", "cancelled", "expired", "out_of_memory", "gone"})
_AGAIN_S: Final = 0.1
_POLL_S: Final = 0.25
#: A stream that says nothing for this long is left, which cancels its job. Far beyond what a job waits for a model that
#: is loaded anew after each kill of its workers.
_SILENCE_S: Final = 120.0
_CONNECT_S: Final = 5.0
#: A slow reader is slow for this long.
_SLOW_S: Final = 8.0
#: How long a job waits for one that has gone and will come back.
_LINGER_S: Final = 30.0
_FINAL_STATES: Final = frozenset(wire.ENDS)


class Clients:
    """Performs orders against the gateways at `urls` and keeps what was heard."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        urls: Sequence[str],
        run: str,
        truths: Mapping[str, Truth],
        patience_s: float,
    ) -> None:
        """`run` makes this run's idempotency keys its own. `patience_s`: of one client with one order."""
        self._session, self._urls, self._run = session, urls, run
        self._truths, self._patience_s = truths, patience_s
        self.heard: list[Heard] = []
        self.longest_silence_s = 0.0

    def truth(self, order: Order) -> Truth | None:
        return self._truths.get(order.piece)

    async def perform(self, order: Order) -> Heard:
        """One order from request to end. Never raises what a stack under attack can cause."""
        key = f"{self._run}-{order.number}"
        api = "jobs" if order.manner == "poll" else "openai"
        heard = Heard(order, keyed_id(api, key))
        self.heard.append(heard)
        try:
            async with asyncio.timeout(self._patience_s):
                if order.manner != "poll" or await self._queued(heard, key):
                    await self._stream(heard, key)
        except TimeoutError:
            heard.gave_up = f"after {self._patience_s:g} s, {heard.num_bytes} bytes, {heard.refused[-3:]}"
        return heard

    # Streaming

    async def _stream(self, heard: Heard, key: str) -> None:
        turn = heard.order.number
        while True:
            turn += 1
            url = self._urls[turn % len(self._urls)]
            try:
                if await self._once(heard, url, key):
                    return
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                heard.refused.append(type(error).__name__)
                heard.resumed += 1
            await asyncio.sleep(_AGAIN_S)

    async def _once(self, heard: Heard, url: str, key: str) -> bool:
        """One connection. True once there is nothing more to come."""
        truth = self.truth(heard.order)
        frame_bytes = truth.frame_bytes if truth is not None else 2
        from_frame, skip = divmod(heard.num_bytes, frame_bytes)
        if heard.accepted:
            query = {"format": "pcm", "from_frame": str(from_frame)}
            asked = self._session.get(f"{url}/v1/jobs/{heard.job}/audio", params=query, timeout=_timeout())
        else:
            body = {**_body(heard.order), "response_format": "pcm"}
            headers = {"Idempotency-Key": key}
            asked = self._session.post(f"{url}/v1/audio/speech", json=body, headers=headers, timeout=_timeout())
            skip = 0
        async with asked as response:
            if response.status != 200:
                return await self._is_final(heard, response)
            heard.accepted = True
            return await self._read(heard, response, truth, skip)

    async def _read(self, heard: Heard, response: aiohttp.ClientResponse, truth: Truth | None, skip: int) -> bool:
        order = heard.order
        whole = right_frames(order, truth) * truth.frame_bytes if truth is not None else 0
        leave_at = int(order.leave_at * whole) if order.leave_at < 1 else None
        if order.manner == "return" and heard.num_bytes:
            leave_at = None
        began = last = time.monotonic()
        rng = random.Random(order.number)
        while True:
            if order.manner == "slow" and time.monotonic() - began < _SLOW_S:
                await asyncio.sleep(0.4)
                data = await response.content.read(rng.choice((1, 64, 1024, 4096)))
            else:
                data = await response.content.readany()
            now = time.monotonic()
            if not data:
                heard.whole = True
                return True
            data, skip = data[skip:], max(0, skip - len(data))
            if data and truth is not None:
                heard.take(now, data, truth)
            self.longest_silence_s = max(self.longest_silence_s, now - last)
            last = now
            if leave_at is not None and heard.num_bytes >= leave_at:
                response.close()
                return order.manner == "hang_up"

    async def _is_final(self, heard: Heard, response: aiohttp.ClientResponse) -> bool:
        """Whether a refusal is the last word; if not, wait as long as it says."""
        code = await _code(response)
        heard.refused.append(f"{response.status} {code}")
        if code in _PASSING:
            await asyncio.sleep(min(2.0, float(response.headers.get("Retry-After", "1"))))
            return False
        if code in _ENDED:
            heard.accepted = True
        else:
            heard.denied = f"{response.status} {code}"
        return True

    # Polling

    async def _queued(self, heard: Heard, key: str) -> bool:
        """Queue a job and ask for its state until it has ended; False if it is not to be had."""
        turn, body = heard.order.number, _body(heard.order)
        while True:
            turn += 1
            url = self._urls[turn % len(self._urls)]
            try:
                if not heard.accepted:
                    headers = {"Idempotency-Key": key}
                    asked = self._session.post(f"{url}/v1/jobs", json=body, headers=headers, timeout=_timeout())
                else:
                    asked = self._session.get(f"{url}/v1/jobs/{heard.job}", timeout=_timeout())
                async with asked as response:
                    if response.status in {200, 202}:
                        heard.accepted = True
                        if (await response.json())["state"] in _FINAL_STATES:
                            return True
                    elif await self._is_final(heard, response):
                        return False
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                heard.refused.append(type(error).__name__)
            await asyncio.sleep(_POLL_S)


def _timeout() -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENCE_S)


def _body(order: Order) -> dict[str, Any]:
    body: dict[str, Any] = {"model": order.model, "input": order.input, "voice": "", "params": dict(order.params)}
    if order.manner == "return":
        body["linger_s"] = _LINGER_S
    if order.expires_in_s is not None:
        body["expires_at"] = (datetime.now(UTC) + timedelta(seconds=order.expires_in_s)).isoformat()
    return body


async def _code(response: aiohttp.ClientResponse) -> str:
    """Our stable code, in either envelope."""
    try:
        told = await response.json(content_type=None)
    except ValueError:
        return "unreadable"
    return str(told.get("code") or told.get("error", {}).get("code"))


async def record(session: aiohttp.ClientSession, url: str, order: Order) -> Truth:
    """A reference recording, made while nothing is disturbed. Raises aiohttp.ClientError."""
    body = {**_body(order), "response_format": "pcm"}
    async with session.post(f"{url}/v1/audio/speech", json=body, timeout=_timeout()) as response:
        response.raise_for_status()
        rate_hz, channels = wire.parse_media_type(response.headers["Antiphon-Media"])
        return Truth(await response.read(), rate_hz, channels, job=response.headers["Antiphon-Job"])
