"""Requests to a running gateway, with one clear line for every way in which they can fail."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, TypeVar

import aiohttp
import msgspec

from ops.errors import OpsError
from ops.settings import ClientSettings

T = TypeVar("T")

#: OpenSSL's names for an answer that is no TLS.
_NO_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"}
_WHERE_A_KEY_GOES = "this command takes it from ANTIPHON_API_KEY, and `antiphon keys create` makes one"


@asynccontextmanager
async def request(
    settings: ClientSettings,
    method: str,
    path: str,
    *,
    json: object = None,
    silence_s: float | None = 30.0,
    allowed: HTTPStatus | None = None,
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Send one request and yield the response's head; its body streams.

    `silence_s` bounds each wait for more bytes, the first included; None waits without end (a job may queue for long).
    Raises OpsError for a status of 400 or more except `allowed`, and if the response breaks off. Leaving the block,
    also by cancellation, closes the connection, which cancels a streaming job.
    """
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=silence_s)
    url = settings.url
    try:
        async with (
            aiohttp.ClientSession(
                url, timeout=timeout, headers=_key_header(settings.api_key), connector=_connector(settings.ca)
            ) as session,
            session.request(method, path, json=json) as response,
        ):
            if response.status >= HTTPStatus.BAD_REQUEST and response.status != allowed:
                reason = describe(response.status, await response.read())
                hint = f"; {_WHERE_A_KEY_GOES}" if response.status == HTTPStatus.UNAUTHORIZED else ""
                raise OpsError(f"{reason}{hint}")
            yield response
    except aiohttp.ClientSSLError as error:
        if (reason := _tls_reason(error)) in _NO_TLS:
            raise OpsError(f"{url} does not speak TLS; is it http://{url.partition('://')[2]}?") from error
        raise OpsError(f"{url}: its certificate is not accepted: {reason}; --ca FILE names its authority") from error
    except aiohttp.ClientConnectorError as error:
        raise OpsError(f"nothing listens at {url}; start one with `antiphon up`") from error
    except TimeoutError as error:
        raise OpsError(f"{url} sent nothing for {silence_s:g} s") from error
    except aiohttp.ClientResponseError as error:
        raise OpsError(f"{url} does not speak HTTP; is it the address of a gateway?") from error
    except aiohttp.ClientError as error:
        raise OpsError(f"{url} broke off its response: {error or type(error).__name__}") from error


def describe(status: int, body: bytes) -> str:
    """One line for a refusal: RFC 9457's `detail`, else OpenAI's `error.message`, else the status itself."""
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "error"
    try:
        problem: Any = msgspec.json.decode(body)
    except msgspec.DecodeError:
        problem = None
    if isinstance(problem, dict):
        error = problem.get("error")
        detail = problem.get("detail") or (error.get("message") if isinstance(error, dict) else error)
        if detail or problem.get("title"):
            return f"{detail or problem['title']} ({status})"
    return f"{status} {phrase}"


def _connector(ca: str) -> aiohttp.TCPConnector | None:
    """Connections that also trust the authorities of the file `ca`; None: those that the system trusts.

    Raises OpsError for a file that holds none.
    """
    if not ca:
        return None
    try:
        return aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=ca))
    except (OSError, ssl.SSLError) as error:
        raise OpsError(f"--ca {ca}: {error.strerror or error}") from error


def _tls_reason(error: aiohttp.ClientSSLError) -> str:
    inner = getattr(error, "certificate_error", None) or error.os_error
    return str(getattr(inner, "verify_message", "") or getattr(inner, "reason", "") or inner)


def _key_header(text: str) -> dict[str, str]:
    if not (text.isascii() and text.isprintable()):
        raise OpsError("the API key holds characters that no key has")
    return {"Authorization": f"Bearer {text.strip()}"} if text else {}


async def fetch_json(settings: ClientSettings, method: str, path: str) -> Any:
    """The JSON of a response, None for an empty one. Raises OpsError."""
    async with request(settings, method, path) as response:
        body = await response.read()
    try:
        return msgspec.json.decode(body) if body else None
    except msgspec.DecodeError as error:
        raise OpsError(f"{settings.url}{path} answered with something that is not JSON") from error


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's asynchronous part. Ctrl-C cancels it and exits with code 130."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
