"""A small HTTP server that answers as scripted, for the commands that talk to a gateway."""

import asyncio
import json
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

RATE_HZ = 24_000
PCM = bytes(range(256)) * 94
#: As a server writes it that does not know the length yet.
STREAMING_HEAD = b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE_HZ, 2 * RATE_HZ, 2, 16)
STREAMING_HEAD += b"data\xff\xff\xff\xff"


class FakeGateway:
    """Answers as scripted, and keeps the requests that it received."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str, Any]] = []
        self.status = 200
        self.body: Any = None
        self.breaks_off = False
        self.job = ""
        #: What `/readyz` lacks while the answer to another request waits; None: no request waits.
        self.lacks: list[str] | None = None
        self.looks = 0
        #: Set by the second look at `/readyz`: by then the answer of the first one has been used.
        self.looked_twice = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        self.received.append((request.method, str(request.rel_url), json.loads(text) if text else None))
        if self.lacks is not None and request.path == "/readyz":
            self.looks += 1
            if self.looks > 1:
                self.looked_twice.set()
            return web.json_response({"status": "not ready", "missing": self.lacks}, status=503 if self.lacks else 200)
        if self.lacks is not None:
            await self.looked_twice.wait()
        if self.body is not None:
            return web.json_response(self.body, status=self.status)
        response = web.StreamResponse(headers={"Content-Type": "audio/wav", "Antiphon-Job": self.job})
        await response.prepare(request)
        await response.write(STREAMING_HEAD[:30])
        await response.write(STREAMING_HEAD[30:] + PCM[:1000])
        if self.breaks_off:
            assert request.transport is not None
            request.transport.abort()
            return response
        await response.write(PCM[1000:])
        await response.write_eof()
        return response


@contextmanager
def served(gateway: FakeGateway, tls: tuple[Path, Path] | None = None) -> Iterator[str]:
    """Serve on a thread of its own, since the commands run their own event loop; yields the URL.

    `tls`: a certificate for localhost, and its key.
    """
    context = None
    if tls is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*tls)
    loop, ready, port = asyncio.new_event_loop(), threading.Event(), 0

    async def start() -> web.AppRunner:
        nonlocal port
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", gateway.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        port = runner.addresses[0][1]
        return runner

    def run() -> None:
        runner = loop.run_until_complete(start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(20)
    try:
        yield f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
