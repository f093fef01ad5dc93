"""The workers that this gateway knows."""

import time

from aiohttp import web

from bus.fleet.fleet import Fleet, KnownWorker
from gateway.api.answers import ShownFleet, ShownWorker
from gateway.http.operation import Answer, operation
from gateway.http.responses import json_response
from gateway.http.services import FLEET


@operation("The workers.", answers={200: Answer("Workers by id.", ShownFleet)})
async def fleet(request: web.Request) -> web.Response:
    """`GET /v1/fleet`."""
    known = request.app[FLEET]
    workers = sorted(known.workers.values(), key=lambda each: each.id)
    return json_response(ShownFleet([_shown_worker(known, each) for each in workers]))


def _shown_worker(known: Fleet, worker: KnownWorker) -> ShownWorker:
    beat = worker.heartbeat
    return ShownWorker(
        id=beat.id,
        pid=beat.pid,
        host=beat.host,
        models=beat.models,
        slots=beat.slots,
        in_flight=len(beat.held),
        state="silent" if known.is_silent(worker) else beat.state,
        device=beat.device,
        device_bytes=beat.device_bytes,
        breaker=beat.breaker,
        weight=beat.weight,
        backup=beat.backup,
        boot=beat.boot,
        rss_bytes=beat.rss_bytes,
        heard_s=round(time.monotonic() - worker.heartbeat_at, 3),
    )
