"""A client of the WebSocket APIs, for tests."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec

WITHIN_S = 20.0
VLLM = "/v1/audio/speech/stream"


async def job_after(http: aiohttp.ClientSession, job: str, within_s: float = 20.0) -> str:
    """The first job accepted after `job`, once there is one."""
    async with asyncio.timeout(within_s):
        while True:
            async with http.get("/v1/jobs?limit=2") as answer:
                newest = [str(each["id"]) for each in (await answer.json())["jobs"]]
            if newest[1:] == [job]:
                return newest[0]
            await asyncio.sleep(0.01)


class SocketClient:
    """One socket. JSON messages are received as dicts, binary ones as bytes."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def send(self, kind: str, **fields: Any) -> None:
        await self.ws.send_json({"type": kind, **fields})

    async def send_text(self, *texts: str, done: bool = True) -> None:
        """Send texts; `done`: and the end of the utterance."""
        for text in texts:
            await self.send("input.text", text=text)
        if done:
            await self.send("input.done")

    async def receive(self, within_s: float = WITHIN_S) -> dict[str, Any] | bytes | int:
        """The next message; the close code once the server has closed the socket."""
        message = await self.ws.receive(timeout=within_s)
        if message.type is aiohttp.WSMsgType.TEXT:
            return dict(msgspec.json.decode(message.data))
        if message.type is aiohttp.WSMsgType.BINARY:
            return bytes(message.data)
        assert message.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED}, message
        return self.ws.close_code or 0

    async def receive_json(self, within_s: float = WITHIN_S) -> dict[str, Any]:
        """The next message, which must be JSON."""
        message = await self.receive(within_s)
        assert isinstance(message, dict), message
        return message

    async def receive_audio(self, num_bytes: int) -> bytes:
        """The next messages, all binary, until they have at least `num_bytes`."""
        data = b""
        while len(data) < num_bytes:
            message = await self.receive()
            assert isinstance(message, bytes), message
            data += message
        return data

    async def receive_until(self, kind: str, within_s: float = WITHIN_S, *, has_started: bool = False) -> "Received":
        """All messages up to the first of this type. `has_started`: audio may come first whose
        `audio.start` was received earlier."""
        received = Received()
        if has_started:
            received.audio.append([])
        async with asyncio.timeout(within_s):
            while received.add(await self.receive()) != kind:
                continue
        return received


class Received:
    """Messages of a server."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        #: Binary messages, one list for each `audio.start`.
        self.audio: list[list[bytes]] = []

    def add(self, message: dict[str, Any] | bytes | int) -> str:
        """Add a message; its type, or "" for a binary one."""
        if isinstance(message, bytes):
            self.audio[-1].append(message)
            return ""
        assert isinstance(message, dict), f"closed with {message} after {self.messages}"
        self.messages.append(message)
        if message["type"] == "audio.start":
            self.audio.append([])
        return str(message["type"])

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """The messages of this type."""
        return [message for message in self.messages if message["type"] == kind]

    @property
    def pcm(self) -> list[bytes]:
        """The audio of each sentence."""
        return [b"".join(messages) for messages in self.audio]


@contextlib.asynccontextmanager
async def connected(http: aiohttp.ClientSession, path: str = VLLM, **config: Any) -> AsyncIterator[SocketClient]:
    """A socket; `config`, if there is any, is sent first."""
    async with http.ws_connect(path) as ws:
        client = SocketClient(ws)
        if config:
            await client.send("session.config", **config)
        yield client


def tone(*, stream_audio: bool = True, split_granularity: str = "sentence", **more: Any) -> dict[str, Any]:
    """A config for `tone` as PCM; fields that a config does not have become params of the engine."""
    fields = {name: more.pop(name) for name in ("response_format", "word_timestamps", "seed", "voice") if name in more}
    return {
        "model": "tone",
        "response_format": "pcm",
        "stream_audio": stream_audio,
        "split_granularity": split_granularity,
        "params": more,
        **fields,
    }
