"""Routes: the model and version that answer a request, by the name that it has for the model. ADR 22.

The choice is made once, before the request's job is built, and written into the job.
"""

import uuid
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import msgspec
from aiohttp import web

from bus import wire
from bus.errors import NoWorker, UnknownModel
from bus.fleet.fleet import Fleet
from bus.fleet.messages import ModelCard
from bus.params import short
from bus.routes.route import BY_TENANT, Route, Target, choose
from bus.text import suggestion
from gateway.access.caller import CALLER
from gateway.http.headers import idempotency_key
from gateway.http.services import FLEET, JOBS, ROUTES
from gateway.jobs.validation import DEFAULT_MODEL

Routes = Mapping[str, Route]

#: Of a request without a session: what all its jobs are chosen by, as the sentences of a WebSocket.
_OWN_KEY: Final = web.RequestKey("route_key", str)


class Chosen(NamedTuple):
    """The model of a job: fields of `wire.Job`."""

    model: str
    version: str
    #: Model and version as without the route; None: no route has chosen.
    requested: wire.Requested | None = None


def routed(request: web.Request, name: str, own: str, version: str, job_id: str = "") -> Chosen:
    """The model and version that answer an HTTP request, or a WebSocket's, by its route if it has one.

    `name`: of the model, as sent; `own`: our model that it stands for without a route. `version`: as sent. `job_id`: as
    sent, or "". Raises NoWorker for a route to a version that no worker has offered, UnknownModel for a version
    that the route of a foreign name does not have.
    """

    def other_key() -> str:
        if "Idempotency-Key" in request.headers:
            return idempotency_key(request)
        if job_id:
            return job_id
        if _OWN_KEY not in request:
            request[_OWN_KEY] = uuid.uuid4().hex
        return request[_OWN_KEY]

    choice = _Choice(request.app[ROUTES].entries, request[CALLER].tenant, request.headers, other_key)
    return choice.model(request.app[FLEET], name, own, version)


def routed_message(routes: Routes, fleet: Fleet, job: wire.Job, headers: Mapping[str, str]) -> wire.Job:
    """The job of a request over NATS with the model and version of its route. `headers`: names in lower case.

    Raises NoWorker as `routed` does.
    """
    name = job.model or DEFAULT_MODEL
    chosen = _Choice(routes, job.tenant, headers, lambda: job.id).model(fleet, name, name, job.version)
    return msgspec.structs.replace(job, **chosen._asdict())


class _Choice:
    """The choice among targets for one request."""

    def __init__(self, routes: Routes, tenant: str, headers: Mapping[str, str], other_key: Callable[[], str]) -> None:
        """`headers`: found by names in lower case. `other_key`: of a request without the header of its route."""
        self._routes = routes
        self._tenant = tenant
        self._headers = headers
        self._other_key = other_key

    def model(self, fleet: Fleet, name: str, own: str, version: str) -> Chosen:
        """As `routed`."""
        route = self._routes.get(name) or self._routes.get(own)
        if route is None:
            return Chosen(own, version)
        targets = route.targets
        if version:  # no choice between versions is left
            targets = [each for each in targets if each.version in {"", version}]
            if fleet.card(own) is not None:
                targets = [each for each in targets if each.model == own]
            elif not targets:
                raise _unknown_version(route, version)
            if not targets:
                return Chosen(own, version)
        target = self._target(route, targets)
        if not target.version and target.model != route.name and (second := self._routes.get(target.model)):
            target = self._target(second, second.targets)
        _check_offered(fleet, route, target)
        return Chosen(target.model, target.version or version, wire.Requested(model=own, version=version))

    def _target(self, route: Route, targets: list[Target]) -> Target:
        if route.sticky == BY_TENANT:
            key = self._tenant
        else:
            key = self._headers.get(route.sticky_header.lower()) or self._other_key()
        return choose(route.name, targets, key)


def _unknown_version(route: Route, version: str) -> UnknownModel:
    known = sorted({target.version for target in route.targets})
    unknown = UnknownModel(
        f"version: {short(version)!r} is none of the route {short(route.name)!r}{suggestion(version, known, limit=3)}"
    )
    unknown.path = "version"
    return unknown


def _check_offered(fleet: Fleet, route: Route, target: Target) -> None:
    known = fleet.known_versions.get(target.model, {})
    if not known or (target.version and target.version not in known):
        version = f"version {target.version} of {target.model}" if target.version else f"model {target.model}"
        raise NoWorker(f"no worker has offered {version}, to which the route {short(route.name)!r} leads; try again")


def named_cards(request: web.Request) -> dict[str, ModelCard]:
    """The models on offer, and those of routes, by the names that requests have for them; sorted.

    A route has the card of its heaviest target. One whose target no worker has offered is left out, its model too.
    """
    fleet, found = request.app[FLEET], request.app[FLEET].cards()
    for name, route in request.app[ROUTES].entries.items():
        target = heaviest(route)
        versions = fleet.known_versions.get(target.model, {})
        card = versions.get(target.version) if target.version else fleet.card(target.model)
        if card is not None:
            found[name] = card
        else:
            found.pop(name, None)
    return {name: found[name] for name in sorted(found)}


def heaviest(route: Route) -> Target:
    """The target that answers most requests; of equal ones the first."""
    return max(route.targets, key=lambda target: target.weight)


def shown_card(request: web.Request, name: str, own: str) -> ModelCard:
    """The card that describes a name: of its route's heaviest target, else of `own`, our model that it stands for.

    Raises UnknownModel, NoWorker.
    """
    route = request.app[ROUTES].entries.get(name) or request.app[ROUTES].entries.get(own)
    if route is None:
        return request.app[JOBS].card(own)
    target = heaviest(route)
    _check_offered(request.app[FLEET], route, target)
    return request.app[JOBS].card(target.model, target.version)
