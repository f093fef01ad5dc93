"""Which key a request is chosen by, and which model and version its job gets. ADR 22."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from bus import wire
from bus.errors import NoWorker, UnknownModel
from bus.fleet.fleet import Fleet
from bus.routes.route import Change, Route, Target
from bus.transport.bucket import BucketCopy
from gateway.access.caller import CALLER, Caller
from gateway.api.job_fields import OPENAI_MODELS, our_model
from gateway.api.routing import Chosen, routed_message
from gateway.http.services import FLEET, ROUTES

CHANGE = Change(revision=1, at=datetime(2026, 11, 30, tzinfo=UTC), by="me")
KNOWN = {"speech": {"v1": None, "v2": None}, "piper": {"v1": None}}
FLEET_ = cast("Fleet", SimpleNamespace(card=lambda name: KNOWN.get(name) and "card", known_versions=KNOWN))


def route(name: str, sticky: str = "session", **weights: float) -> Route:
    """Of `speech`'s versions."""
    targets = [Target(model="speech", version=version, weight=weight) for version, weight in weights.items()]
    return Route(name=name, targets=targets, sticky=sticky, change=CHANGE)


def to_model(name: str, model: str) -> Route:
    return Route(name=name, targets=[Target(model=model, weight=1)], change=CHANGE)


def request(*routes: Route, tenant: str = "public", **headers: str) -> web.Request:
    app = web.Application()
    app[ROUTES] = cast("BucketCopy[Route]", SimpleNamespace(entries={each.name: each for each in routes}))
    app[FLEET] = FLEET_
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    made = make_mocked_request("POST", "/", headers=named, app=app)
    made[CALLER] = Caller(tenant=tenant)
    return made


EVEN = route("speech", v1=1, v2=1)


def versions(*requests: web.Request, **options: str) -> set[str]:
    return {our_model(each, "speech", **options).version for each in requests}  # type: ignore[arg-type]


def test_without_a_route_the_name_stands_for_what_it_did() -> None:
    assert our_model(request(), "piper") == Chosen("piper", "")
    assert our_model(request(), "tts-1", OPENAI_MODELS, version="v1") == Chosen("speech", "v1")
    assert our_model(request(route("other", v2=1)), "") == Chosen("speech", "")


def test_requests_without_a_session_are_chosen_one_by_one() -> None:
    assert versions(*(request(EVEN) for _ in range(64))) == {"v1", "v2"}


def test_all_jobs_of_one_request_get_one_version() -> None:
    """As the sentences of a WebSocket: a voice that changes within an answer would be heard."""
    for _ in range(16):
        one = request(EVEN)
        assert len(versions(*[one] * 16)) == 1


@pytest.mark.parametrize(
    ("sticky", "header"), [("session", "X_Session_Id"), ("header:X-User", "x_user"), ("session", "Idempotency_Key")]
)
def test_requests_with_one_value_of_the_header_get_one_version(sticky: str, header: str) -> None:
    by = route("speech", sticky, v1=1, v2=1)
    each = [versions(*(request(by, **{header: f"s{number}"}) for _ in range(8))) for number in range(32)]
    assert {len(found) for found in each} == {1}
    assert set[str]().union(*each) == {"v1", "v2"}


def test_a_session_counts_before_the_key_of_a_request_and_before_its_id() -> None:
    keyed = [request(EVEN, X_Session_Id="s", Idempotency_Key=f"k{number}") for number in range(32)]
    assert len({our_model(each, "speech", job_id=f"j{number}").version for number, each in enumerate(keyed)}) == 1


def test_an_id_of_the_callers_gets_one_version() -> None:
    for number in range(16):
        assert len(versions(*(request(EVEN) for _ in range(8)), job_id=f"j{number}")) == 1


def test_a_tenant_gets_one_version() -> None:
    by = route("speech", "tenant", v1=1, v2=1)
    each = [versions(*(request(by, tenant=f"t{n}", X_Session_Id=f"{m}") for m in range(8))) for n in range(32)]
    assert {len(found) for found in each} == {1}
    assert set[str]().union(*each) == {"v1", "v2"}


def test_a_foreign_name_goes_by_its_own_route_else_by_that_of_the_model_it_stands_for() -> None:
    both = (route("speech", v1=1), route("tts-1", v2=1))
    sent = wire.Requested(model="speech")
    assert our_model(request(*both), "tts-1", OPENAI_MODELS) == Chosen("speech", "v2", sent)
    assert our_model(request(*both), "tts-1-hd", OPENAI_MODELS) == Chosen("speech", "v1", sent)
    assert our_model(request(*both), "") == Chosen("speech", "v1", sent)
    assert our_model(request(route("Kokoro/82M", v2=1)), "Kokoro/82M").requested == wire.Requested(model="Kokoro/82M")


def test_routes_to_each_other_end() -> None:
    circle = (to_model("piper", "speech"), to_model("speech", "piper"))
    assert our_model(request(*circle), "piper").model == "piper"
    assert our_model(request(to_model("piper", "piper")), "piper").model == "piper"


def test_a_version_in_the_request_is_what_it_gets() -> None:
    only = route("speech", v1=1)
    assert our_model(request(only), "speech", version="v2") == Chosen("speech", "v2")
    assert our_model(request(to_model("song", "speech")), "song", version="v2")[:2] == ("speech", "v2")
    assert our_model(request(route("song", v1=1, v2=0)), "song", version="v2")[:2] == ("speech", "v2")
    with pytest.raises(UnknownModel, match="version: 'v3' is none of the route 'song'"):
        our_model(request(route("song", v1=1)), "song", version="v3")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Target(model="speech", version="v7", weight=1), "version v7 of speech, to which the route 'speech' leads"),
        (Target(model="opera", weight=1), "model opera, to which the route 'speech' leads"),
        (Target(model="opera", version="v1", weight=1), "version v1 of opera, to which"),
    ],
)
def test_a_target_that_no_worker_has_offered_is_named(target: Target, message: str) -> None:
    with pytest.raises(NoWorker, match=message):
        our_model(request(Route(name="speech", targets=[target], change=CHANGE)), "speech")


def test_a_message_is_chosen_by_its_headers_and_its_id() -> None:
    routes = {"speech": EVEN}
    jobs = [wire.Job(input="x", id=f"j{number}") for number in range(64)]
    assert {routed_message(routes, FLEET_, job, {}).version for job in jobs} == {"v1", "v2"}
    for headers in ({"x-session-id": "a"}, {"x-session-id": "b"}):
        assert len({routed_message(routes, FLEET_, job, headers).version for job in jobs}) == 1
    repeat = {routed_message(routes, FLEET_, jobs[0], {}).version for _ in range(16)}
    assert len(repeat) == 1
    routed = routed_message(routes, FLEET_, jobs[0], {})
    assert (routed.model, routed.requested) == ("speech", wire.Requested(model="speech"))
