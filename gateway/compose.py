"""Composes the services of one gateway process."""

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Optional

from bus.access.keyring import KeyRing
from bus.fleet.fleet import Fleet
from bus.jobs.client import Bus
from bus.jobs.interest import Interest
from bus.jobs.retention import Retention
from bus.routes.route import Route
from bus.routes.table import route_table
from bus.transport.bucket import BucketCopy
from bus.turns import Turns
from gateway.access.addresses import Addresses
from gateway.access.authenticator import Authenticator
from gateway.access.links import Links
from gateway.access.origins import Origins
from gateway.api.blobs import BlobApi
from gateway.codecs.encoded_cache import EncodedCache
from gateway.http.open_connections import OpenConnections, connection_capacity
from gateway.http.requests import Requests
from gateway.jobs.cache import ResultCache
from gateway.jobs.queue_position import StartRates
from gateway.jobs.service import Deadlines, Jobs
from gateway.jobs.validation import MarkingPolicy, Validation
from gateway.limits.admission import Admission
from gateway.limits.buffers import Buffers
from gateway.limits.limiter import Limiter
from gateway.limits.pacing import Pacing
from gateway.limits.rates import rate_of
from gateway.settings import GatewaySettings
from gateway.voices.uploads import VoiceUploads
from gateway.webhooks.acceptance import WebhookAcceptance
from gateway.webhooks.delivery import WebhookDelivery
from gateway.webhooks.queue import WebhookQueue
from gateway.webhooks.sender import Sender

if TYPE_CHECKING:
    from gateway.access.tokens import TokenVerifier

#: Rows of lists that are read at one time; a list has up to 1,000. Few: reading them takes the time of this process.
_NUM_READS: Final = 4
#: Clients connect without a proxy.
_DIRECT: Final = Addresses(())


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Every service of the process. Only `serve` and `make_app` get all of them: a handler gets those that it needs."""

    settings: GatewaySettings
    bus: Bus
    keys: KeyRing
    origins: Origins
    authenticator: Authenticator
    limiter: Limiter
    interest: Interest
    fleet: Fleet
    routes: BucketCopy[Route]
    deadlines: Deadlines
    starts: StartRates
    retention: Retention
    jobs: Jobs
    webhook_queue: WebhookQueue
    webhooks: WebhookAcceptance
    webhook_delivery: WebhookDelivery
    blobs: BlobApi
    voices: VoiceUploads
    encoded: EncodedCache
    buffers: Buffers
    reads: Turns
    open_connections: OpenConnections
    pacing: Pacing
    requests: Requests


def compose(
    bus: Bus,
    settings: GatewaySettings,
    tasks: asyncio.TaskGroup,
    tokens: Optional["TokenVerifier"] = None,
    addresses: Addresses = _DIRECT,
) -> Services:
    """Build the services of one process. `tasks` outlives every request; `tokens`: None if no JWTs are accepted."""
    keys = KeyRing(bus)
    origins = Origins(settings.cors_origins, settings.allowed_hosts)
    requests = Requests()
    limiter = Limiter(bus, keys, rate_of(settings.address_requests_per_s, settings.address_burst), tasks)
    interest = Interest(bus.connection, bus.logs, tasks)
    fleet = Fleet(bus, settings.ping_s, tasks, interest.maybe_held_by)
    deadlines, starts = Deadlines(bus, tasks), StartRates(fleet)
    retention, blobs, markings = Retention(bus), BlobApi(bus, settings), MarkingPolicy(keys.bucket, settings.marking)
    validation = Validation(fleet, blobs.uploaded, bus.clock, bus.settings, markings, settings.no_worker_s)
    cache = ResultCache(bus.logs, is_shared=settings.shared_cache)
    admission = Admission(bus, limiter)
    jobs = Jobs(bus, validation, admission, interest, deadlines, starts, retention, cache, tasks, requests.stopping)
    authenticate = partial(Authenticator, keys, Links(bus, keys), tokens, origins, addresses)
    webhook_queue, sender = WebhookQueue(bus), Sender(allow_private=settings.webhook_private)
    return Services(
        settings=settings,
        bus=bus,
        keys=keys,
        origins=origins,
        authenticator=authenticate(host=settings.host, anonymous=settings.anonymous),
        limiter=limiter,
        interest=interest,
        fleet=fleet,
        routes=route_table(bus),
        deadlines=deadlines,
        starts=starts,
        retention=retention,
        jobs=jobs,
        webhook_queue=webhook_queue,
        webhooks=WebhookAcceptance(jobs, webhook_queue, allow_private=settings.webhook_private),
        webhook_delivery=WebhookDelivery(
            jobs, webhook_queue, sender, max_tries=settings.webhook_max_tries, retry_s=settings.webhook_retry_s
        ),
        blobs=blobs,
        voices=VoiceUploads(bus, blobs.uploaded, blobs.room, settings),
        encoded=EncodedCache(settings.encoded_cache_bytes, settings.encoded_max_s),
        buffers=Buffers(settings.buffer_bytes),
        reads=Turns(_NUM_READS),
        open_connections=OpenConnections(connection_capacity(), addresses, settings.connections_per_address),
        pacing=Pacing(),
        requests=requests,
    )
