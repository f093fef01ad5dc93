"""A client of the WebSocket doors, for tests."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec

WITHIN_S = 20.0
VLLM = "/v1/audio/speech/stream"


async def after(http: aiohttp.ClientSession, job: str, within_s: float = 20.0) -> str:
    """The job that was accepted next after `job`, once it was."""
    async with asyncio.timeout(within_s):
        while True:
            async with http.get("/v1/jobs?limit=2") as answer:
                newest = [str(each["id"]) for each in (await answer.json())["jobs"]]
            if newest[1:] == [job]:
                return newest[0]
            await asyncio.sleep(0.01)


class Talk:
    """One socket. Messages come as they are told; binary ones as bytes."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def tell(self, kind: str, **fields: Any) -> None:
        await self.ws.send_json({"type": kind, **fields})

    async def say(self, *texts: str, done: bool = True) -> None:
        for text in texts:
            await self.tell("input.text", text=text)
        if done:
            await self.tell("input.done")

    async def next(self, within_s: float = WITHIN_S) -> dict[str, Any] | bytes | int:
        """The next message; the close code when the server says goodbye."""
        message = await self.ws.receive(timeout=within_s)
        if message.type is aiohttp.WSMsgType.TEXT:
            return dict(msgspec.json.decode(message.data))
        if message.type is aiohttp.WSMsgType.BINARY:
            return bytes(message.data)
        assert message.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED}, message
        return self.ws.close_code or 0

    async def json(self, within_s: float = WITHIN_S) -> dict[str, Any]:
        """The next message, which must be JSON."""
        message = await self.next(within_s)
        assert isinstance(message, dict), message
        return message

    async def sound(self, num_bytes: int) -> bytes:
        """The next messages, all binary, until there is so much."""
        data = b""
        while len(data) < num_bytes:
            message = await self.next()
            assert isinstance(message, bytes), message
            data += message
        return data

    async def until(self, kind: str, within_s: float = WITHIN_S, *, begun: bool = False) -> "Heard":
        """All messages up to the first of this type. `begun`: sound may come whose `audio.start` was read before."""
        heard = Heard()
        if begun:
            heard.sounds.append([])
        async with asyncio.timeout(within_s):
            while heard.add(await self.next()) != kind:
                continue
        return heard


class Heard:
    """What a server told."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        #: Binary messages, one list for each `audio.start`.
        self.sounds: list[list[bytes]] = []

    def add(self, message: dict[str, Any] | bytes | int) -> str:
        """The message's type, "" of a binary one."""
        if isinstance(message, bytes):
            self.sounds[-1].append(message)
            return ""
        assert isinstance(message, dict), f"closed with {message} after {self.messages}"
        self.messages.append(message)
        if message["type"] == "audio.start":
            self.sounds.append([])
        return str(message["type"])

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == kind]

    @property
    def pcm(self) -> list[bytes]:
        """Of each sentence, all that came of it."""
        return [b"".join(sound) for sound in self.sounds]


@contextlib.asynccontextmanager
async def talking(http: aiohttp.ClientSession, path: str = VLLM, **config: Any) -> AsyncIterator[Talk]:
    """A socket; with any `config` that is told first."""
    async with http.ws_connect(path) as ws:
        talk = Talk(ws)
        if config:
            await talk.tell("session.config", **config)
        yield talk


def tone(*, stream_audio: bool = True, split_granularity: str = "sentence", **more: Any) -> dict[str, Any]:
    """A config that asks for `tone` as PCM; what is no field of a config goes to the engine."""
    fields = {name: more.pop(name) for name in ("response_format", "word_timestamps", "seed", "voice") if name in more}
    return {
        "model": "tone",
        "response_format": "pcm",
        "stream_audio": stream_audio,
        "split_granularity": split_granularity,
        "params": more,
        **fields,
    }
