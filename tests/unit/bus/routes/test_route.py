"""Routes: which target a key chooses, which records are routes, and what an operator's mistake is answered with."""

import math
from datetime import UTC, datetime

import pytest

from bus import wire
from bus.errors import Invalid
from bus.route_names import RouteNames
from bus.routes.route import Change, Route, Target, check, choose, read
from bus.transport.direct import Stored
from bus.transport.parser import Message

CHANGE = Change(revision=1, at=datetime(2026, 11, 30, tzinfo=UTC), by="me@here")
KEYS = [f"session-{number}" for number in range(20_000)]


def targets(**weights: float) -> list[Target]:
    return [Target(model="speech", version=version, weight=weight) for version, weight in weights.items()]


def versions(among: list[Target], name: str = "speech") -> list[str]:
    return [choose(name, among, key).version for key in KEYS]


@pytest.mark.parametrize(("among", "share"), [({"v1": 95, "v2": 5}, 0.05), ({"v1": 0.2, "v2": 0.3, "v3": 0.5}, 0.3)])
def test_each_target_gets_its_share_of_the_keys(among: dict[str, float], share: float) -> None:
    chosen = versions(targets(**among)).count("v2")
    assert abs(chosen - share * len(KEYS)) < 4 * math.sqrt(share * (1 - share) * len(KEYS))


def test_the_choice_is_the_same_in_every_process() -> None:
    """By its formula, not by Python's hash: these were written down once."""
    chosen = versions(targets(v1=50, v2=50))[:24]
    assert "".join(version[1] for version in chosen) == "221121111121111222112112"


def test_keys_move_only_to_a_target_whose_share_has_grown() -> None:
    before, after = versions(targets(v1=95, v2=5)), versions(targets(v1=80, v2=20))
    moves = {(old, new) for old, new in zip(before, after, strict=True) if old != new}
    assert moves == {("v1", "v2")}
    added = versions(targets(v1=80, v2=20, v3=10))
    assert {new for old, new in zip(after, added, strict=True) if old != new} == {"v3"}


def test_two_routes_choose_independently() -> None:
    """Else the 5 % of one route would be the same people as the 5 % of every other."""
    one, other = versions(targets(v1=50, v2=50)), versions(targets(v1=50, v2=50), "tts-1")
    agree = sum(a == b for a, b in zip(one, other, strict=True))
    assert abs(agree - len(KEYS) / 2) < 4 * math.sqrt(len(KEYS) / 4)


def test_a_target_of_weight_0_gets_nothing() -> None:
    assert set(versions(targets(v1=1, v2=0, v3=1))) == {"v1", "v3"}


def route(**fields: object) -> Route:
    made = Route(name="speech", targets=targets(v1=1), change=CHANGE)
    return Route(**{name: getattr(made, name) for name in made.__struct_fields__} | fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "path", "message"),
    [
        ({"name": "a b"}, "name", "'a b' must be 1 to 128 characters"),
        ({"name": ".hidden"}, "name", "must be 1 to 128"),
        ({"name": "x" * 129}, "name", "must be 1 to 128"),
        ({"name": ""}, "name", "must be 1 to 128"),
        ({"sticky": "user"}, "sticky", "'user' is not session, tenant or header:NAME"),
        ({"sticky": "header:"}, "sticky", "'header:' is not"),
        ({"sticky": "header:X User"}, "sticky", "'header:X User' is not"),
        ({"targets": targets(v1=0, v2=0)}, "targets", "every weight is 0"),
        ({"targets": targets(v1=-1)}, "targets", "weight of speech@v1: -1 is not 0 to 1e+06"),
        ({"targets": targets(v1=math.nan)}, "targets", "weight of speech@v1: nan is not"),
        ({"targets": targets(v1=math.inf)}, "targets", "weight of speech@v1: inf is not"),
        ({"targets": targets(v1=1) * 2}, "targets", "'speech@v1' is named twice"),
        ({"targets": targets(**{f"v{n}": 1 for n in range(33)})}, "targets", "there are 33, a route has 1 to 32"),
        ({"targets": [Target(model="a/b", version="v1", weight=1)]}, "targets", "'a/b@v1': model and version"),
        ({"targets": [Target(model="a", version="v 1", weight=1)]}, "targets", "'a@v 1': model and version"),
        (
            {"change": Change(revision=1, at=CHANGE.at, by="me", why="x" * 501)},
            "why",
            "501 characters, the limit is 500",
        ),
    ],
)
def test_a_route_that_cannot_be_is_refused_with_field_limit_and_value(
    fields: dict[str, object], path: str, message: str
) -> None:
    with pytest.raises(Invalid) as caught:
        check(route(**fields))
    assert caught.value.path == path
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["speech", "tts-1", "hexgrad/Kokoro-82M", "eleven.v3", "a=b"])
def test_names_of_models_elsewhere_can_have_routes(name: str) -> None:
    check(route(name=name))
    assert read(stored(wire.encode(route(name=name)), name), PREFIX) == route(name=name)


PREFIX = RouteNames("antiphon").prefix


def stored(data: bytes, name: str = "speech", head: bytes | None = None) -> Stored:
    return Stored(Message(f"{PREFIX}{name}", "", head, data), 1, "2026-11-30T00:00:00Z")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"{}",
        wire.encode(route(name="other")),
        wire.encode(route(targets=targets(v1=-1))),
        wire.encode(route()).replace(b'"weight":1', b'"weight":"many"'),
    ],
)
def test_a_malformed_record_is_no_route(data: bytes) -> None:
    assert read(stored(data), PREFIX) is None


def test_a_record_deleted_by_hand_is_no_route() -> None:
    deleted = stored(wire.encode(route()), head=b"NATS/1.0\r\nKV-Operation: DEL\r\n\r\n")
    assert read(deleted, PREFIX) is None


def test_the_header_of_a_route() -> None:
    assert [route(sticky=sticky).sticky_header for sticky in ("session", "tenant", "header:X-User")] == [
        "X-Session-Id",
        "",
        "X-User",
    ]
