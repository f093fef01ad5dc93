"""The services that handlers get from their application, each under a key of its own."""

from typing import Final

from aiohttp import web

from bus.fleet.fleet import Fleet
from bus.routes.route import Route
from bus.subjects import JobKey
from bus.transport.bucket import BucketCopy
from bus.turns import Turns
from gateway.access.authenticator import Authenticator
from gateway.access.caller import CALLER
from gateway.codecs.encoded_cache import EncodedCache
from gateway.http.open_connections import OpenConnections
from gateway.http.requests import Requests
from gateway.http.responses import JOB
from gateway.jobs.service import Jobs
from gateway.limits.buffers import Buffers
from gateway.limits.limiter import Limiter
from gateway.limits.pacing import Pacing
from gateway.voices.uploads import VoiceUploads

JOBS: Final = web.AppKey("jobs", Jobs)
ROUTES: Final = web.AppKey("routes", BucketCopy[Route])
FLEET: Final = web.AppKey("fleet", Fleet)
AUTHENTICATOR: Final = web.AppKey("authenticator", Authenticator)
LIMITER: Final = web.AppKey("limiter", Limiter)
PACING: Final = web.AppKey("pacing", Pacing)
REQUESTS: Final = web.AppKey("requests", Requests)
#: Handlers whose requests count against a limit of requests per second.
COUNTED: Final = web.AppKey("counted", frozenset[object])
CONNECTIONS: Final = web.AppKey("connections", OpenConnections)
BUFFERS: Final = web.AppKey("buffers", Buffers)
#: Reads of lists that run at one time, of all tenants.
READS: Final = web.AppKey("reads", Turns)
VOICES: Final = web.AppKey("voices", VoiceUploads)
ENCODED: Final = web.AppKey("encoded", EncodedCache)


def job_key(request: web.Request) -> JobKey:
    """The key of the caller's job that `{id}` of the path names. Raises NotFound for text that cannot be an id."""
    job_id = request.match_info["id"]
    key = request.app[JOBS].key(request[CALLER].tenant, job_id)
    request[JOB] = job_id
    return key
