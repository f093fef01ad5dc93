"""Clients of every behaviour. Each checks every sample, and after a disconnect resumes at another gateway."""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import aiohttp

from bus import wire
from bus.jobs.submit import keyed_id
from ops.chaos.ledger import ClientRecord, expected_frames
from ops.chaos.requests import Request
from ops.chaos.samples import Reference

#: Codes of refusals that are worth a retry.
_PASSING: Final = frozenset({"bus_unreachable", "no_worker", "storage_full", "overloaded"})
#: Codes that say how an accepted job ended: the run judges it by its log.
_ENDED: Final = frozenset({"engine_failed", "interrupted", "cancelled", "expired", "out_of_memory", "gone"})
_RETRY_S: Final = 0.1
_POLL_S: Final = 0.25
#: A client disconnects from a stream that is silent for this long, which cancels its job. Far beyond the time that a
#: job waits for a model that is loaded again after each kill of its workers.
_SILENCE_S: Final = 120.0
_CONNECT_S: Final = 5.0
#: A slow reader is slow for this long.
_SLOW_S: Final = 8.0
#: How long a job waits for a client that has left and will return.
_LINGER_S: Final = 30.0
_FINAL_STATES: Final = frozenset(wire.ENDS)


class Clients:
    """Sends requests to the gateways at `urls` and keeps a record of each."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        urls: Sequence[str],
        run: str,
        references: Mapping[str, Reference],
        patience_s: float,
    ) -> None:
        """`run` prefixes the idempotency keys. A client gives up `patience_s` seconds after its request."""
        self._session = session
        self._urls = urls
        self._run = run
        self._references = references
        self._patience_s = patience_s
        self.records: list[ClientRecord] = []
        #: Seconds between two arrivals of the same stream, the longest of all.
        self.longest_silence_s = 0.0

    def reference(self, request: Request) -> Reference | None:
        """The right audio of `request`; None for a request that has none."""
        return self._references.get(request.piece)

    async def perform(self, request: Request) -> ClientRecord:
        """Send one request and follow it to its end. Faults of the stack end in the record, not in an exception."""
        key = f"{self._run}-{request.number}"
        api = "jobs" if request.behaviour == "poll" else "openai"
        record = ClientRecord(request, keyed_id(api, key))
        self.records.append(record)
        try:
            async with asyncio.timeout(self._patience_s):
                if request.behaviour != "poll" or await self._queue_and_poll(record, key):
                    await self._stream(record, key)
        except TimeoutError:
            record.gave_up = f"after {self._patience_s:g} s, {record.num_bytes} bytes, {record.refused[-3:]}"
        return record

    # Streaming

    async def _stream(self, record: ClientRecord, key: str) -> None:
        turn = record.request.number
        while True:
            turn += 1
            url = self._urls[turn % len(self._urls)]
            try:
                if await self._connect_and_read(record, url, key):
                    return
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                record.refused.append(type(error).__name__)
                record.resumed += 1
            await asyncio.sleep(_RETRY_S)

    async def _connect_and_read(self, record: ClientRecord, url: str, key: str) -> bool:
        """Read from one connection. Returns whether the request is over."""
        reference = self.reference(record.request)
        frame_bytes = reference.frame_bytes if reference is not None else 2
        from_frame, skip = divmod(record.num_bytes, frame_bytes)
        if record.accepted:
            query = {"format": "pcm", "from_frame": str(from_frame)}
            sent = self._session.get(f"{url}/v1/jobs/{record.job}/audio", params=query, timeout=_timeout())
        else:
            body = {**_body(record.request), "response_format": "pcm"}
            headers = {"Idempotency-Key": key}
            sent = self._session.post(f"{url}/v1/audio/speech", json=body, headers=headers, timeout=_timeout())
            skip = 0
        async with sent as response:
            if response.status != 200:
                return await self._is_final(record, response)
            record.accepted = True
            return await self._read(record, response, reference, skip)

    async def _read(
        self, record: ClientRecord, response: aiohttp.ClientResponse, reference: Reference | None, skip: int
    ) -> bool:
        request = record.request
        whole = expected_frames(request, reference) * reference.frame_bytes if reference is not None else 0
        leave_at = int(request.leave_at * whole) if request.leave_at < 1 else None
        if request.behaviour == "return" and record.num_bytes:
            leave_at = None
        began = last = time.monotonic()
        rng = random.Random(request.number)
        while True:
            if request.behaviour == "slow" and time.monotonic() - began < _SLOW_S:
                await asyncio.sleep(0.4)
                data = await response.content.read(rng.choice((1, 64, 1024, 4096)))
            else:
                data = await response.content.readany()
            now = time.monotonic()
            if not data:
                record.whole = True
                return True
            data, skip = data[skip:], max(0, skip - len(data))
            if data and reference is not None:
                record.take(now, data, reference)
            self.longest_silence_s = max(self.longest_silence_s, now - last)
            last = now
            if leave_at is not None and record.num_bytes >= leave_at:
                response.close()
                return request.behaviour == "hang_up"

    async def _is_final(self, record: ClientRecord, response: aiohttp.ClientResponse) -> bool:
        """Whether a refusal ends the request; if not, wait for its Retry-After, 2 s at most."""
        code = await _code(response)
        record.refused.append(f"{response.status} {code}")
        if code in _PASSING:
            await asyncio.sleep(min(2.0, float(response.headers.get("Retry-After", "1"))))
            return False
        if code in _ENDED:
            record.accepted = True
        else:
            record.denied = f"{response.status} {code}"
        return True

    # Polling

    async def _queue_and_poll(self, record: ClientRecord, key: str) -> bool:
        """Queue a job and poll its state until it has ended. Returns False if the request was refused for good."""
        turn, body = record.request.number, _body(record.request)
        while True:
            turn += 1
            url = self._urls[turn % len(self._urls)]
            try:
                if not record.accepted:
                    headers = {"Idempotency-Key": key}
                    sent = self._session.post(f"{url}/v1/jobs", json=body, headers=headers, timeout=_timeout())
                else:
                    sent = self._session.get(f"{url}/v1/jobs/{record.job}", timeout=_timeout())
                async with sent as response:
                    if response.status in {200, 202}:
                        record.accepted = True
                        if (await response.json())["state"] in _FINAL_STATES:
                            return True
                    elif await self._is_final(record, response):
                        return False
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                record.refused.append(type(error).__name__)
            await asyncio.sleep(_POLL_S)


def _timeout() -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENCE_S)


def _body(request: Request) -> dict[str, Any]:
    body: dict[str, Any] = {"model": request.model, "input": request.input, "voice": "", "params": dict(request.params)}
    if request.behaviour == "return":
        body["linger_s"] = _LINGER_S
    if request.expires_in_s is not None:
        body["expires_at"] = (datetime.now(UTC) + timedelta(seconds=request.expires_in_s)).isoformat()
    return body


async def _code(response: aiohttp.ClientResponse) -> str:
    """Our stable code, from either error envelope."""
    try:
        problem = await response.json(content_type=None)
    except ValueError:
        return "unreadable"
    return str(problem.get("code") or problem.get("error", {}).get("code"))


async def record_reference(session: aiohttp.ClientSession, url: str, request: Request) -> Reference:
    """Record the audio of `request` from an undisturbed stack. Raises aiohttp.ClientError."""
    body = {**_body(request), "response_format": "pcm"}
    async with session.post(f"{url}/v1/audio/speech", json=body, timeout=_timeout()) as response:
        response.raise_for_status()
        rate_hz, channels = wire.parse_media_type(response.headers["Antiphon-Media"])
        return Reference(await response.read(), rate_hz, channels, job=response.headers["Antiphon-Job"])
