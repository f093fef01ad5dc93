"""Callers: which credentials are valid, and which callers a gateway without keys serves."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jwt
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from bus.access.keyring import KeyRing
from bus.access.keys import Key, Limits, make
from bus.errors import Forbidden, Unauthorized, Unreachable
from bus.subjects import is_token
from gateway.access.addresses import Addresses
from gateway.access.authenticator import NO_TENANT, Authenticator, open_token_verifier
from gateway.access.caller import SHARED_TENANT, Caller
from gateway.access.links import Links
from gateway.access.origins import Origins
from gateway.access.tokens import TokenVerifier

NOW_S = 1_800_000_000.0
UPGRADE = {"Upgrade": "WebSocket", "Connection": "Upgrade"}
#: Where an API takes keys, in the words of its refusals.
PLACES = "`token` of the body"


def ring_of(*keys: Key) -> KeyRing:
    known = {key.id: key for key in keys}
    return cast("KeyRing", SimpleNamespace(get=known.get, is_loaded=True))


def authenticator(
    *keys: Key,
    ring: KeyRing | None = None,
    tokens: TokenVerifier | None = None,
    host: str = "127.0.0.1",
    anonymous: bool | None = None,
    trusted_proxies: tuple[str, ...] = (),
) -> Authenticator:
    addresses = Addresses(trusted_proxies)
    links = cast("Links", None)  # no request here has one
    return Authenticator(ring or ring_of(*keys), links, tokens, Origins(()), addresses, host=host, anonymous=anonymous)


def request_with(headers: dict[str, str] | None = None, method: str = "POST", path: str = "/v1/jobs") -> web.Request:
    return make_mocked_request(method, path, {"Host": "127.0.0.1:8080"} | (headers or {}))


@pytest.fixture
def made() -> tuple[Key, str]:
    return make("acme", Limits(burst=3), NOW_S)


@pytest.mark.parametrize(
    "header",
    [("Authorization", "Bearer {}"), ("authorization", "bearer  {} "), ("Authorization", "{}"), ("xi-api-key", "{}")],
)
@pytest.mark.parametrize("anonymous", [True, False])
def test_a_key_is_its_tenants(made: tuple[Key, str], header: tuple[str, str], anonymous: bool) -> None:
    key, text = made
    found = authenticator(key, anonymous=anonymous).authenticate(request_with({header[0]: header[1].format(text)}))
    assert (found.tenant, found.key, found.limits) == ("acme", key.id, Limits(burst=3))


def test_a_key_in_the_query_is_valid_for_a_websocket_only(made: tuple[Key, str]) -> None:
    key, text = made
    who = authenticator(key, anonymous=False)
    for name in ("api_key", "xi-api-key"):
        assert who.authenticate(request_with(UPGRADE, "GET", f"/v1/x?{name}={text}")).tenant == "acme"
        with pytest.raises(Unauthorized):
            who.authenticate(request_with({}, "GET", f"/v1/x?{name}={text}"))


@pytest.mark.parametrize("anonymous", [True, False])
def test_a_credential_in_the_form_of_a_key_must_be_valid_even_where_none_is_needed(
    made: tuple[Key, str], anonymous: bool
) -> None:
    key, text = made
    who = authenticator(key, anonymous=anonymous)
    swapped = text[:-1] + ("A" if text[-1] != "A" else "B")
    for wrong in (swapped, make("acme", Limits(), NOW_S)[1], text[:20], "ak-", f"ak-{key.id}-"):
        with pytest.raises(Unauthorized) as refused:
            who.authenticate(request_with({"xi-api-key": wrong}))
        assert wrong not in str(refused.value)


def test_a_revoked_key_is_refused_by_its_id(made: tuple[Key, str]) -> None:
    key, text = made
    revoked = msgspec.structs.replace(key, revoked_at=key.created_at)
    with pytest.raises(Unauthorized, match=f"{key.id} was revoked"):
        authenticator(revoked, anonymous=True).authenticate(request_with({"xi-api-key": text}))
    # For a wrong secret the error says not even that.
    with pytest.raises(Unauthorized, match="is not valid"):
        authenticator(revoked, anonymous=True).authenticate(request_with({"xi-api-key": text[:-1]}))


def test_before_the_keys_are_read_a_key_is_refused_as_retryable(made: tuple[Key, str]) -> None:
    ring = cast("KeyRing", SimpleNamespace(get=lambda _: None, is_loaded=False))
    with pytest.raises(Unreachable):
        authenticator(ring=ring, anonymous=False).authenticate(request_with({"xi-api-key": made[1]}))
    with pytest.raises(Unauthorized):
        authenticator(ring=ring, anonymous=False).authenticate(request_with())


def test_two_keys_at_once_are_refused_and_one_twice_is_one(made: tuple[Key, str]) -> None:
    other, other_text = make("globex", Limits(), NOW_S)
    who = authenticator(made[0], other, anonymous=True)
    with pytest.raises(Unauthorized, match="two different keys"):
        who.authenticate(request_with({"Authorization": f"Bearer {made[1]}", "xi-api-key": other_text}))
    twice = {"Authorization": f"Bearer {made[1]}", "xi-api-key": made[1]}
    assert who.authenticate(request_with(twice)).tenant == "acme"


@pytest.mark.parametrize("shown", ["sk-anything", "unused", "ey.no.token", "Basic dXNlcjpwYXNz"])
def test_a_key_of_another_api_is_no_key(shown: str) -> None:
    """Clients of other APIs cannot be run without one."""
    for headers in ({"Authorization": f"Bearer {shown}"}, {"Authorization": shown}, {"xi-api-key": shown}):
        assert authenticator(anonymous=True).authenticate(request_with(headers)).tenant == "public"
        with pytest.raises(Unauthorized, match="an API key is needed"):
            authenticator(anonymous=False).authenticate(request_with(headers))


@pytest.mark.parametrize(
    ("host", "anonymous", "served"),
    [
        ("127.0.0.1", None, True),
        ("127.8.8.8", None, True),
        ("::1", None, True),
        ("localhost", None, True),
        ("0.0.0.0", None, False),
        ("::", None, False),
        ("10.0.0.1", None, False),
        ("gateway.example", None, False),
        ("127.0.0.1", False, False),
        ("0.0.0.0", True, True),
    ],
)
def test_callers_without_a_key_are_served_on_loopback_or_where_that_is_set(
    host: str, anonymous: bool | None, served: bool
) -> None:
    who = authenticator(host=host, anonymous=anonymous)
    if served:
        assert who.authenticate(request_with()) == Caller(address=request_with().remote or "")
    else:
        with pytest.raises(Unauthorized):
            who.authenticate(request_with())


def test_an_open_path_is_served_whatever_key_is_sent() -> None:
    who = authenticator(anonymous=False)
    for headers in ({}, {"xi-api-key": "ak-wrong"}, {"Origin": "https://evil.example"}):
        assert who.authenticate(request_with(headers, "GET", "/livez"), is_open=True).key == ""


def test_a_token_is_valid_where_tokens_are_verified_and_foreign_elsewhere(tmp_path: Path) -> None:
    secret = b"0123456789abcdef0123456789abcdef"
    (tmp_path / "secret").write_bytes(secret)
    headers = {"Authorization": f"Bearer {jwt.encode({'tenant': 'acme', 'preferred_worker': 'w2'}, secret, 'HS256')}"}
    who = authenticator(anonymous=True, tokens=open_token_verifier(secret_file=str(tmp_path / "secret")))
    found = who.authenticate(request_with(headers))
    assert (found.tenant, found.preferred_worker) == ("acme", "w2")
    with pytest.raises(Unauthorized):
        who.authenticate(request_with({"Authorization": headers["Authorization"][:-2]}))
    assert authenticator(anonymous=True).authenticate(request_with(headers)).tenant == "public"


def test_over_nats_the_key_has_the_tenant_and_the_subject_may_only_agree(made: tuple[Key, str]) -> None:
    key, text = made
    for anonymous in (True, False):
        who = authenticator(key, anonymous=anonymous)
        assert who.authenticate_message(f"Bearer {text}", None).tenant == "acme"
        assert who.authenticate_message(text, "acme").key == key.id
        with pytest.raises(Forbidden, match="'acme', the subject of 'globex'"):
            who.authenticate_message(f"Bearer {text}", "globex")
        # A NATS account that may publish to the tenant's subject needs no key.
        assert who.authenticate_message("", "globex") == Caller(tenant="globex")
        with pytest.raises(Unauthorized):
            who.authenticate_message("Bearer ak-wrong", "globex")
    assert authenticator(anonymous=True).authenticate_message("", None).tenant == "public"
    with pytest.raises(Unauthorized):
        authenticator(anonymous=False).authenticate_message("", None)


def test_no_key_and_no_subject_acts_for_the_shared_tenant() -> None:
    key, text = make(SHARED_TENANT, Limits(), NOW_S)
    who = authenticator(key, anonymous=True)
    with pytest.raises(Forbidden, match="'_shared' is reserved"):
        who.authenticate(request_with({"xi-api-key": text}))
    with pytest.raises(Forbidden, match="'_shared' is reserved"):
        who.authenticate_message("", SHARED_TENANT)


def test_a_socket_may_bear_its_key_in_its_first_message(made: tuple[Key, str]) -> None:
    key, text = made
    who = authenticator(key, anonymous=False)
    opened = request_with(UPGRADE, "GET", "/v1/text-to-speech/en/stream-input")
    assert who.authenticate(opened, "message").tenant == NO_TENANT
    assert not is_token(NO_TENANT)
    assert who.authenticate_socket(opened, text, PLACES).tenant == "acme"
    for wrong in ("", "sk-foreign", text[:-1]):
        with pytest.raises(Unauthorized):
            who.authenticate_socket(opened, wrong, PLACES)
    with pytest.raises(Unauthorized):
        who.authenticate(request_with({}, "GET"), "message")
    with pytest.raises(Unauthorized):
        who.authenticate(opened)


def test_a_key_in_a_body_is_as_valid_as_one_in_a_header(made: tuple[Key, str]) -> None:
    key, text = made
    other, other_text = make("globex", Limits(), NOW_S)
    who, shown = authenticator(key, other, anonymous=False), {"Authorization": f"Bearer {text}"}
    assert who.authenticate(request_with(), "body").tenant == NO_TENANT
    assert who.authenticate_body(request_with(), text, PLACES).key == key.id
    for twice in (text, "", "sk-foreign"):
        assert who.authenticate_body(request_with(shown), twice, PLACES).tenant == "acme"
    with pytest.raises(Unauthorized, match="two different keys"):
        who.authenticate_body(request_with(shown), other_text, PLACES)
    for wrong in ("", "sk-foreign", text[:-1], "ak-"):
        with pytest.raises(Unauthorized):
            who.authenticate_body(request_with(), wrong, PLACES)
    open_to_all = authenticator(key, anonymous=True)
    assert open_to_all.authenticate_body(request_with(), "sk-foreign", PLACES).tenant == "public"
    with pytest.raises(Unauthorized):
        open_to_all.authenticate_body(request_with(), text[:-1], PLACES)


def test_behind_a_trusted_proxy_the_address_is_the_clients(made: tuple[Key, str]) -> None:
    class Peer:
        def get_extra_info(self, name: str, default: object = None) -> object:
            return ("10.0.0.9", 4711) if name == "peername" else default

    headers = {"Host": "x", "X-Forwarded-For": "203.0.113.5", "xi-api-key": made[1]}
    request = make_mocked_request("POST", "/v1/jobs", headers, transport=cast("Any", Peer()))
    assert authenticator(made[0]).authenticate(request).address == "10.0.0.9"
    assert authenticator(made[0], trusted_proxies=("10.0.0.0/8",)).authenticate(request).address == "203.0.113.5"
