"""Asking a running gateway: one request, and every way it can fail as one clear line."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, TypeVar

import aiohttp
import msgspec

from ops.errors import OpsError
from ops.settings import ClientSettings

T = TypeVar("T")

_WHERE_A_KEY_GOES = "this command takes it from ANTIPHON_API_KEY, and `antiphon keys create` makes one"


@asynccontextmanager
async def asked(
    at: ClientSettings, method: str, path: str, *, json: object = None, silence_s: float | None = 30.0
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Yield the answer's head; its body streams. Raises OpsError for anything but 2xx, and if the answer breaks off.

    `silence_s` bounds each wait for more bytes, the first included; None waits for ever (a job may queue for long).
    """
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=silence_s)
    url = at.url
    try:
        async with (
            aiohttp.ClientSession(url, timeout=timeout, headers=_key(at.api_key)) as session,
            session.request(method, path, json=json) as response,
        ):
            if response.status >= HTTPStatus.BAD_REQUEST:
                told = describe(response.status, await response.read())
                raise OpsError(f"{told}; {_WHERE_A_KEY_GOES}" if response.status == HTTPStatus.UNAUTHORIZED else told)
            yield response
    except aiohttp.ClientConnectorError as error:
        raise OpsError(f"nothing listens at {url}; start one with `antiphon up`") from error
    except TimeoutError as error:
        raise OpsError(f"{url} has said nothing for {silence_s:g} s") from error
    except aiohttp.ClientResponseError as error:
        raise OpsError(f"{url} does not speak HTTP; is it the address of a gateway?") from error
    except aiohttp.ClientError as error:
        raise OpsError(f"{url} broke off its answer: {error or type(error).__name__}") from error


def describe(status: int, body: bytes) -> str:
    """One line for a refusal: RFC 9457's `detail`, else OpenAI's `error.message`, else the status itself."""
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "error"
    try:
        answer: Any = msgspec.json.decode(body)
    except msgspec.DecodeError:
        answer = None
    if isinstance(answer, dict):
        error = answer.get("error")
        said = answer.get("detail") or (error.get("message") if isinstance(error, dict) else error)
        if said or answer.get("title"):
            return f"{said or answer['title']} ({status})"
    return f"{status} {phrase}"


def _key(text: str) -> dict[str, str]:
    if not (text.isascii() and text.isprintable()):
        raise OpsError("the API key holds characters that no key has")
    return {"Authorization": f"Bearer {text.strip()}"} if text else {}


async def answer(at: ClientSettings, method: str, path: str) -> Any:
    """The JSON that the gateway answers, None for an empty answer. Raises OpsError."""
    async with asked(at, method, path) as response:
        body = await response.read()
    try:
        return msgspec.json.decode(body) if body else None
    except msgspec.DecodeError as error:
        raise OpsError(f"{at.url}{path} answered something that is not JSON") from error


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's asynchronous part. Ctrl-C closes the connection, which cancels a streaming job, and exits 130."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
