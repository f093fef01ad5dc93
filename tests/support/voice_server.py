"""An HTTP server of a voice's files that knows ranges, and may break off."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

#: Bytes after which a file breaks off.
BREAK_BYTES = 20_000


@dataclass
class VoiceServer:
    """What it was requested, and whether the next `.onnx` breaks off."""

    folder: Path
    url: str = ""
    breaks: bool = False
    #: Or sends no more of it, until its client has gone.
    hangs: bool = False
    #: (path, first byte) of each request.
    requests: list[tuple[str, int]] = field(default_factory=list)
    #: Bytes sent of all files.
    num_bytes: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = self.folder / request.match_info["name"]
        if not path.is_file():
            raise web.HTTPNotFound
        data, tag = path.read_bytes(), f'"{path.stat().st_mtime_ns}"'
        first = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if request.headers.get("If-Range", tag) != tag:
            first = 0
        self.requests.append((path.name, first))
        response = web.StreamResponse(status=206 if first else 200, headers={"ETag": tag})
        response.content_length = len(data) - first
        await response.prepare(request)
        if self.breaks and path.suffix == ".onnx":
            self.breaks = False
            await response.write(data[first : first + BREAK_BYTES])
            assert request.transport is not None
            request.transport.close()
            return response
        if self.hangs and path.suffix == ".onnx":
            self.hangs = False
            await response.write(data[first : first + BREAK_BYTES])
            await asyncio.sleep(60)
        await response.write(data[first:])
        self.num_bytes += len(data) - first
        return response


@asynccontextmanager
async def voice_server(folder: Path) -> AsyncIterator[VoiceServer]:
    """Serve `folder` on any free port of this host."""
    server = VoiceServer(folder)
    app = web.Application()
    app.router.add_get("/{name}", server.answer, allow_head=False)
    runner = web.AppRunner(app, shutdown_timeout=0.1)  # one that hangs does not hold the end of its test
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        server.url = f"http://{host}:{port}"
        yield server
    finally:
        await runner.cleanup()
