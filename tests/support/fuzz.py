"""Malformed input for every door, by a seed: bytes that are nearly right, and bytes that are nothing at all."""

import asyncio
import base64
import json
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

#: Bodies that a door would take, to be damaged.
BODIES: tuple[dict[str, Any], ...] = (
    {"model": "tone", "input": "tone", "params": {"seconds": 0.2}, "seed": 7, "run_on": False, "linger_s": 0},
    {"model": "tone", "input": "tone", "voice": {"id": "alloy"}, "response_format": "pcm", "stream_format": "sse"},
    {"text": "tone", "model_id": "tone", "voice_settings": {"speed": 1.0}, "seed": 1, "output_format": "pcm_24000"},
    {"prompt": "a calm evening", "duration": 1, "music_length_ms": 3000, "audio_duration": 10, "batch_size": 1},
    {"task_id_list": ["nothing"], "param_obj": '{"prompt":"x"}', "metas": {"bpm": 90}},
    {"type": "session.config", "model": "tone", "response_format": "pcm", "stream_audio": True},
    {"type": "input.text", "text": "One. Two. Three."},
    {"text": "Hello ", "flush": True, "generation_config": {"chunk_length_schedule": [50]}},
)
_ODD: tuple[bytes, ...] = (
    *(
        b"null",
        b"true",
        b"-0",
        b"1e999",
        b"NaN",
        b"-Infinity",
        b"[" * 3000,
        b'{"a":' * 3000,
        b'"\\ud800"',
        b'"\\u0000"',
    ),
    *(
        b"\xff\xfe",
        b"\x00",
        b"9" * 400,
        b'"' + b"A" * 5000 + b'"',
        b"{}",
        b"[]",
        b'""',
        b"\r\n\r\n",
        b"%00",
        b"../" * 20,
    ),
)
METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "G\xc3T", "")
_PATIENCE_S = 30.0


#: Subjects of the bus, without the root: requests, jobs, usage, control messages, heartbeats, and unknown ones.
BUS_SUBJECTS = (
    *("submit", "submit.public", "submit.other", "cancel.public.nothing", "cancel.public.c1", "listen.public.x"),
    *("job.tone.v1.interactive.public", "job.tone.v1.batch.other", "usage", "usage.g1", "bell.tone.v1.interactive"),
    *("worker.w1.ping", "worker.w1.stop", "worker.w1.drain.x", "worker.w9.hb", "worker.w1.hb", "live.public.x", "keys"),
)
#: Heads of NATS messages, right and wrong.
NATS_HEADS = (
    b"",
    b"NATS/1.0\r\n\r\n",
    b"NATS/1.0\r\nAntiphon-Seed: x\r\n\r\n",
    b"NATS/1.0\r\n:\r\n\xff: \xfe\r\n\r\n",
    b"NATS/1.0",
)


@dataclass
class Fuzz:
    """Deals cases to the doors of one gateway. Every wait is bounded; what is answered is not judged here."""

    seed: int
    http_url: str
    nats_url: str
    root: str
    #: (method, path) of every route, variables still in braces.
    routes: list[tuple[str, str]]
    sockets: list[str]

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self.answers: dict[str, int] = {}

    async def run(self, count: int, at_once: int = 16) -> None:
        kinds: list[Callable[[random.Random], Any]] = [self._body, self._body, self._raw, self._socket, self._bus]
        gate = asyncio.Semaphore(at_once)

        async def one(number: int, seed: int) -> None:
            async with gate, asyncio.timeout(_PATIENCE_S):
                await kinds[number % len(kinds)](random.Random(seed))

        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(one(number, self._rng.getrandbits(48)))

    def damaged(self, rng: random.Random) -> bytes:
        data = bytearray(json.dumps(rng.choice(BODIES)).encode())
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data) + 1)
            match rng.randrange(5):
                case 0:
                    data[at : at + 1] = rng.randbytes(1)
                case 1:
                    data[at : at + rng.randint(1, 30)] = b""
                case 2:
                    data[at:at] = rng.choice(_ODD)
                case 3:
                    colon = data.find(b": ", at)
                    if colon >= 0:
                        end = next((i for i in range(colon + 2, len(data)) if data[i : i + 1] in b",}"), len(data))
                        data[colon + 2 : end] = rng.choice(_ODD)
                case _:
                    data[at:at] = data[: rng.randint(0, 60)]
        return bytes(data[:60_000])

    def _path(self, rng: random.Random, path: str) -> str:
        while "{" in path:
            before, _, rest = path.partition("{")
            filler = rng.choice(
                ("nothing", "%00", "..", "a" * 300, "-1", "99999999999999999999", "%ff%fe", "öä", "a/b", "")
            )
            path = before + filler + rest.partition("}")[2]
        query = rng.choice(
            ("", "", "?limit=-1", "?format=%00", "?from_frame=1e9", "?a=b&a=c", "?" + "x" * 3000, "?limit=1")
        )
        return path + query

    async def _body(self, rng: random.Random) -> None:
        """Well-formed HTTP around a damaged body."""
        method, path = rng.choice(self.routes)
        if rng.random() < 0.1:
            method = rng.choice(METHODS)
        body = self.damaged(rng)
        kind = rng.choice(
            ("application/json", "application/json", "text/plain", "multipart/form-data; boundary=x", "\xff", "")
        )
        head = f"{method} {self._path(rng, path)} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        await self._send(head.encode("latin-1", "replace") + self._headers(rng) + b"Connection: close\r\n\r\n" + body)

    def _headers(self, rng: random.Random) -> bytes:
        odd = (
            b"Range: bytes=9-1\r\n",
            b"Range: bytes=-\r\n",
            b"Last-Event-ID: -1\r\n",
            b"Idempotency-Key: " + b"k" * 300 + b"\r\n",
            b"Authorization: Bearer " + base64.b64encode(rng.randbytes(40)) + b"\r\n",
            b"Authorization: Bearer a.b.c\r\n",
            b"xi-api-key: \xff\xff\r\n",
            b"traceparent: 00-zz\r\n",
            b'If-None-Match: "\r\n',
            b"Expect: 100-continue\r\n",
            b"Cache-Control: no-store, no-cache\r\n",
            b"Accept-Encoding: \x01\r\n",
        )
        return b"".join(rng.sample(odd, rng.randint(0, 2)))

    async def _raw(self, rng: random.Random) -> None:
        """Bytes that are no HTTP, or a request cut and mixed up."""
        whole = (
            b"POST /v1/audio/speech HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        )
        data = bytearray(
            rng.choice((whole, whole * 3, rng.randbytes(rng.randint(1, 400)), whole.replace(b"5\r\n", b"-5\r\n")))
        )
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(data) + 1)
            data[at : at + rng.randint(0, 8)] = rng.choice((b"", rng.randbytes(3), b"\r\n", b":", b"\x00", b"A" * 9000))
        await self._send(bytes(data), patience_s=0.3)

    async def _send(self, data: bytes, patience_s: float = 20.0) -> None:
        """What a client does that sends this and waits; a hang-up would only show that hanging up works."""
        parts = urlsplit(self.http_url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        outcome = "nothing"
        try:
            writer.write(data)
            async with asyncio.timeout(patience_s):
                outcome = (await reader.read(12))[9:12].decode("latin-1") or "closed"
                while await reader.read(65_536):
                    continue
        except ConnectionError:
            outcome = "cut"
        except TimeoutError:
            outcome += " and then waits"
        finally:
            self._count(outcome)
            writer.transport.abort()

    def _count(self, outcome: str) -> None:
        self.answers[outcome] = self.answers.get(outcome, 0) + 1

    async def _socket(self, rng: random.Random) -> None:
        """A WebSocket that opens well and then goes wrong."""
        parts, path = urlsplit(self.http_url), self._path(rng, rng.choice(self.sockets))
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        key = base64.b64encode(rng.randbytes(16)).decode()
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            writer.write(f"{head}Sec-WebSocket-Key: {key}\r\n\r\n".encode("latin-1", "replace"))
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
            for _ in range(rng.randint(1, 5)):
                writer.write(self._frame(rng))
            await writer.drain()
            if rng.random() < 0.5:
                await asyncio.wait_for(reader.read(4096), 0.3)
            self._count("socket")
        except (ConnectionError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            self._count("socket cut")
        finally:
            writer.transport.abort() if rng.random() < 0.7 else writer.close()

    def _frame(self, rng: random.Random) -> bytes:
        payload = self.damaged(rng) if rng.random() < 0.8 else rng.randbytes(rng.randint(0, 300))
        opcode = rng.choice((0x81, 0x81, 0x81, 0x82, 0x01, 0x80, 0x88, 0x89, 0x8A, 0x83, 0xF1, 0x8B))
        size = len(payload) if rng.random() < 0.9 else rng.choice((0, 1, 1 << 40))
        mask = rng.randbytes(4)
        length = (
            bytes([0x80 | size])
            if size < 126
            else b"\xfe" + struct.pack(">H", size)
            if size < 65_536
            else b"\xff" + struct.pack(">Q", size)
        )
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload[:2000]))
        return bytes([opcode]) + length + mask + masked + payload[2000:]

    async def _bus(self, rng: random.Random) -> None:
        """Messages on every subject that we listen to; the server takes them all, their content is ours to refuse."""
        parts = urlsplit(self.nats_url.split(",")[0])
        subject = f"{self.root}.{rng.choice(BUS_SUBJECTS)}"
        reply = rng.choice(("", "_INBOX.fuzz", f"{self.root}.submit", "$JS.API.STREAM.NAMES"))
        payload = self.damaged(rng)[:20_000]
        head = rng.choice(NATS_HEADS)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            writer.write(b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\n')
            line = (
                f"HPUB {subject} {reply} {len(head)} {len(head) + len(payload)}"
                if head
                else f"PUB {subject} {reply} {len(payload)}"
            )
            writer.write(b" ".join(line.encode().split()) + b"\r\n" + head + payload + b"\r\nPING\r\n")
            async with asyncio.timeout(20):
                while not (outcome := await reader.readline()).startswith((b"PONG", b"-ERR")):
                    if not outcome:
                        break
            self._count("bus")
        finally:
            writer.transport.abort()


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
