"""Signed links: each that is not exactly the one that was made is refused."""

import time
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.access.keyring import KeyRing
from bus.access.keys import Key, Limits, make
from bus.errors import Forbidden, Unauthorized, Unreachable
from gateway.access.caller import Caller
from gateway.access.links import Grant, Links

KEY, _ = make("acme", Limits(burst=3), 1_800_000_000.0)
OTHER, _ = make("umbrella", Limits(), 1_800_000_000.0)


def links(*keys: Key, is_loaded: bool = True) -> Links:
    known = {key.id: key for key in keys}
    return Links(cast("KeyRing", SimpleNamespace(get=known.get, is_loaded=is_loaded)))


def token(key: Key = KEY, *, job: str = "a-job", ends_in_s: int = 60) -> str:
    grant = Grant(job, ("audio",), int(time.time()) + ends_in_s)
    return links(key).token(Caller(tenant=key.tenant, key=key.id), grant)


def test_a_link_acts_for_its_tenant_and_counts_against_its_key() -> None:
    found = links(KEY).caller(token(), "audio", "a-job", "192.0.2.1")
    assert found == Caller(tenant="acme", key=KEY.id, address="192.0.2.1", limits=Limits(burst=3))


@given(st.data())
def test_a_token_that_is_altered_by_a_bit_is_refused(data: st.DataObject) -> None:
    made = bytearray(token().encode())
    place = data.draw(st.integers(0, len(made) - 1))
    made[place] ^= 1 << data.draw(st.integers(0, 6))
    with pytest.raises(Unauthorized):
        links(KEY, OTHER).caller(made.decode(), "audio", "a-job", "")


@given(st.text())
def test_any_other_text_is_refused(text: str) -> None:
    for given_text in (text, f"al.{KEY.id}.{text}", f"al.{KEY.id}.{text}.{text}", f"{token()}.{text or 'x'}"):
        with pytest.raises(Unauthorized):
            links(KEY).caller(given_text, "audio", "a-job", "")


def test_a_link_ends() -> None:
    with pytest.raises(Unauthorized, match=r"the link ended \d+ s ago"):
        links(KEY).caller(token(ends_in_s=-5), "audio", "a-job", "")


def test_revoking_the_key_revokes_its_links() -> None:
    revoked = msgspec.structs.replace(KEY, revoked_at=KEY.created_at)
    with pytest.raises(Unauthorized, match=f"the API key {KEY.id} that made the link was revoked"):
        links(revoked).caller(token(), "audio", "a-job", "")


def test_a_link_opens_its_job_and_its_scopes_alone() -> None:
    with pytest.raises(Forbidden, match="another job"):
        links(KEY).caller(token(), "audio", "b-job", "")
    with pytest.raises(Forbidden, match="for audio, not for events"):
        links(KEY).caller(token(), "events", "a-job", "")


def test_a_link_that_another_key_signed_is_refused() -> None:
    payload = token(OTHER).split(".")[2:]
    with pytest.raises(Unauthorized):
        links(KEY, OTHER).caller(".".join(["al", KEY.id, *payload]), "audio", "a-job", "")


def test_before_the_keys_are_read_a_link_may_be_valid() -> None:
    with pytest.raises(Unreachable):
        links(is_loaded=False).caller(token(), "audio", "a-job", "")


def test_an_anonymous_caller_needs_no_token_and_one_with_a_web_token_gets_none() -> None:
    grant = Grant("a-job", ("audio",), 0)
    assert links(KEY).token(Caller(), grant) == ""
    with pytest.raises(Forbidden, match="JSON Web Token"):
        links(KEY).token(Caller(tenant="acme", key="jwt-0123456789ab"), grant)
