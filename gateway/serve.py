"""The gateway process: one connection to the bus, one HTTP server, and the services around them."""

import asyncio
import socket
from contextlib import ExitStack, closing, suppress
from functools import partial
from typing import Final

from aiohttp import web

from bus.access.keyring import KeyRing
from bus.errors import BusError
from bus.jobs.client import open_bus
from bus.lifetime import background_tasks, fail_when_closed
from bus.process import give_memory_back
from bus.routes.route import Route
from bus.telemetry.logging import logger
from bus.transport.bucket import BucketCopy
from gateway.access.addresses import Addresses
from gateway.access.authenticator import open_token_verifier
from gateway.app import make_app, refusal
from gateway.compose import Services, compose
from gateway.http.connection import Listener
from gateway.http.reading import ReadingTimes, Shared
from gateway.http.tls import Certificate, open_certificate
from gateway.nats.api import NatsApi
from gateway.nats.cancels import Cancels
from gateway.settings import GatewaySettings

log = logger(__name__)

#: Pieces of bodies, and answers, are at least as large. Measured with 500 bodies of 1 MiB that stopped and 128 MiB of
#: `buffer_bytes`: at most 141 MiB beyond an idle process, and 23 after them; with glibc's own threshold 209 and 176.
_LARGE_BYTES: Final = 64 << 10
_BACKLOG: Final = 2048
#: Seconds to write the rest of the responses, once every request has been answered or cancelled.
_CLOSE_S: Final = 2.0
#: Seconds to read the keys and the routes each before the first request; then they are read meanwhile.
_LOAD_S: Final = 2.0


async def serve(settings: GatewaySettings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set; then streams in progress may go on for `drain_s`.

    A stream that is cut then does not end its job: its listeners may come back through another gateway.

    Raises SettingsError for a proxy that is no address and for a file of token keys or of TLS that cannot be used; and,
    in an ExceptionGroup, once running:
        Unreachable: no NATS at the start, or NATS has closed the connection for good.
        OSError: the address cannot be bound.
    """
    give_memory_back(_LARGE_BYTES)
    tokens = open_token_verifier(
        secret_file=settings.jwt_secret_file,
        jwks_file=settings.jwks_file,
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
    )
    addresses = Addresses(settings.trusted_proxies)
    tls = open_certificate(settings.tls_cert, settings.tls_key)
    async with open_bus(settings.bus, "gateway") as bus:
        async with background_tasks() as tasks:
            services = compose(bus, settings, tasks, tokens, addresses)
            for service in (
                services.fleet.run(),
                services.keys.run(),
                services.routes.run(),
                services.limiter.run(),
                services.starts.run(),
                services.retention.run(),
                services.blobs.retention.run(),
                services.voices.voices.run(),
                services.pacing.run(),
                Cancels(bus, services.authenticator, tasks).run(),
                _nats_api(services, tasks).run(),
                services.webhook_delivery.run(),
                bus.clock.keep_synced(bus.js, bus.subjects.jobs_stream),
                fail_when_closed(bus.connection.state.closed),
                *(each.run() for each in (tokens, tls) if each is not None),
            ):
                tasks.create_task(service)
            await _serve_http(services, tls, stop)
        log.debug("gateway.stopped")


def _nats_api(services: Services, tasks: asyncio.TaskGroup) -> NatsApi:
    return NatsApi(
        services.jobs,
        services.fleet,
        services.routes,
        services.authenticator,
        services.limiter.requests,
        services.requests,
        services.pacing,
        tasks,
    )


async def _load(bucket: KeyRing | BucketCopy[Route]) -> None:
    """Read the keys or the routes, or give up soon.

    As long as the keys have not been read requests are refused; without the routes a request goes where none leads it.
    """
    with suppress(BusError, TimeoutError):
        async with asyncio.timeout(_LOAD_S):
            await bucket.refresh()


async def _serve_http(services: Services, tls: Certificate | None, stop: asyncio.Event) -> None:
    settings = services.settings
    await _load(services.keys)
    await _load(services.routes)
    # Without `handler_cancellation` a hang-up is noticed at the next write, and while its job is queued never.
    app = make_app(services)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=_CLOSE_S)
    await runner.setup()
    assert runner.server is not None
    try:
        # A site of aiohttp's would refuse unreadable requests in plain text.
        sockets = await _bind(settings.host, settings.port)
        with closing(Listener(sockets, runner.server, _shared(services, app, tls))):
            port = sockets[0].getsockname()[1]
            host = f"[{settings.host}]" if ":" in settings.host else settings.host
            scheme = "http" if tls is None else "https"
            log.info("gateway.ready", url=f"{scheme}://{host}:{port}", port=port)
            await stop.wait()
        await _drain(services, settings.drain_s)
    finally:
        services.interest.close()
        await runner.cleanup()
        services.deadlines.close()
        await services.limiter.close()


def _shared(services: Services, app: web.Application, tls: Certificate | None) -> Shared:
    settings = services.settings
    return Shared(
        stalled_reader_s=settings.stalled_reader_s,
        times=ReadingTimes(
            head_s=settings.request_head_s, body_s=settings.request_body_s, keep_alive_s=settings.keep_alive_s
        ),
        tls=tls,
        open=services.open_connections,
        buffers=services.buffers,
        refuse=partial(refusal, app),
    )


async def _bind(host: str, port: int) -> list[socket.socket]:
    """A listening socket for each address of `host`. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with ExitStack() as stack:
        sockets = []
        for family, kind, protocol, _, (address, *rest) in dict.fromkeys(found):
            listening = stack.enter_context(socket.socket(family, kind, protocol))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                listening.bind((address, *rest))
            except OSError as error:
                raise OSError(
                    error.errno, f"cannot listen at {address}, port {port}: {(error.strerror or '').lower()}"
                ) from None
            listening.listen(_BACKLOG)
            listening.setblocking(False)
            sockets.append(listening)
        stack.pop_all()
        return sockets


async def _drain(services: Services, drain_s: float) -> None:
    """Wait at most `drain_s` for the requests in progress; then cancel them, which does not cancel their jobs."""
    requests = services.requests
    requests.stopping.set()
    log.info("gateway.draining", requests=len(requests), drain_s=drain_s)
    try:
        async with asyncio.timeout(drain_s):
            await requests.finished()
    except TimeoutError:
        log.info("gateway.drain_timeout", requests=len(requests), drain_s=drain_s)
    services.interest.close()
    requests.cancel()
