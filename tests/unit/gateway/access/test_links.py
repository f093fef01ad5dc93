"""Signed links: each that is not exactly the one that was made is refused."""

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.access.keyring import KeyRing
from bus.access.keys import Key, Limits, make
from bus.access.link_keys import MAX_LINK_S, LinkKeys, rotated
from bus.errors import Forbidden, NotFound, Unauthorized, Unreachable
from bus.jobs.client import Bus
from bus.subjects import JobKey
from gateway.access.caller import Caller
from gateway.access.links import Links

NOW_S = 1_800_000_000.0
KEY, _ = make("acme", Limits(burst=3), NOW_S)
SECRETS = rotated(None, NOW_S, end_links=False)
JOB = JobKey("antiphon", "acme", "a-job")
OWNER = Caller(tenant="acme", key=KEY.id)


def links(secrets: LinkKeys | None = SECRETS, *keys: Key, is_loaded: bool = True) -> Links:
    """Links whose bus has a clock alone, with these secrets and keys."""
    bus: Any = SimpleNamespace(clock=SimpleNamespace(now=lambda: NOW_S), subjects=SimpleNamespace(links_stream="LINKS"))
    known = {key.id: key for key in keys or (KEY,)}
    ring = SimpleNamespace(get=known.get, is_loaded=is_loaded, link_keys=secrets)
    return Links(cast("Bus", bus), cast("KeyRing", ring))


async def token(secrets: LinkKeys = SECRETS, owner: Caller = OWNER, *, ends_in_s: int = 60) -> str:
    return (await links(secrets).make(owner, JOB, 7, ["audio"], int(NOW_S) + ends_in_s))[1]


async def test_a_link_acts_for_its_tenant_and_counts_against_its_key() -> None:
    found = links().caller(await token(), "audio", "a-job", "192.0.2.1")
    assert found.link is not None
    assert (found.link.job, found.link.born, found.link.scopes) == ("a-job", 7, ("audio",))
    assert msgspec.structs.replace(found, link=None) == Caller(
        tenant="acme", key=KEY.id, address="192.0.2.1", limits=Limits(burst=3)
    )


@pytest.mark.parametrize("owner", [Caller(), Caller(tenant="acme", key="jwt-0123456789ab")])
async def test_a_caller_without_an_api_key_makes_links_too(owner: Caller) -> None:
    found = links().caller(await token(owner=owner), "audio", "a-job", "")
    assert (found.tenant, found.key, found.limits) == (owner.tenant, owner.key, Limits())


@given(data=st.data())
async def test_a_token_that_is_altered_by_a_bit_is_refused(data: st.DataObject) -> None:
    made = bytearray((await token()).encode())
    place = data.draw(st.integers(0, len(made) - 1))
    made[place] ^= 1 << data.draw(st.integers(0, 6))
    with pytest.raises(Unauthorized):
        links().caller(made.decode(), "audio", "a-job", "")


@given(text=st.text())
async def test_any_other_text_is_refused(text: str) -> None:
    secret = SECRETS.keys[0].id
    for given_text in (text, f"al.{secret}.{text}", f"al.{secret}.{text}.{text}", f"{await token()}.{text or 'x'}"):
        with pytest.raises(Unauthorized):
            links().caller(given_text, "audio", "a-job", "")


async def test_a_link_ends() -> None:
    with pytest.raises(Unauthorized, match="the link ended 5 s ago"):
        links().caller(await token(ends_in_s=-5), "audio", "a-job", "")


async def test_revoking_the_key_revokes_its_links() -> None:
    revoked = msgspec.structs.replace(KEY, revoked_at=KEY.created_at)
    with pytest.raises(Unauthorized, match=f"the API key {KEY.id} that made the link was revoked"):
        links(SECRETS, revoked).caller(await token(), "audio", "a-job", "")


async def test_a_link_opens_its_job_and_its_scopes_alone() -> None:
    with pytest.raises(Forbidden, match="another job"):
        links().caller(await token(), "audio", "b-job", "")
    with pytest.raises(Forbidden, match="for audio, not for events"):
        links().caller(await token(), "events", "a-job", "")


async def test_a_rotation_keeps_links_to_their_end_unless_it_ends_them() -> None:
    made = await token()
    after = rotated(SECRETS, NOW_S + 1, end_links=False)
    assert after.keys[0] != SECRETS.keys[0]
    assert links(after).caller(made, "audio", "a-job", "").tenant == "acme"
    assert links(after).caller(await token(after), "audio", "a-job", "").tenant == "acme"
    with pytest.raises(Unauthorized):
        links(rotated(SECRETS, NOW_S, end_links=True)).caller(made, "audio", "a-job", "")
    later = rotated(after, NOW_S + MAX_LINK_S, end_links=False)
    assert later.keys[1:] == after.keys, "replaced less than the longest life of a link ago"
    assert rotated(after, NOW_S + MAX_LINK_S + 2, end_links=False).keys[1:] == after.keys[:1]


async def test_before_the_keys_are_read_a_link_may_be_valid() -> None:
    with pytest.raises(Unreachable):
        links(None, is_loaded=False).caller(await token(), "audio", "a-job", "")


@pytest.mark.parametrize("link", ["", "x", "0123456789abcdeF", "0123456789abcdef0", "0123456789abcde."])
async def test_text_that_is_no_id_of_a_link_is_not_found(link: str) -> None:
    with pytest.raises(NotFound):
        await links().revoke(JOB, link)
