"""An API key: its form, its stored record, and the check of a presented key."""

from datetime import UTC, datetime

import msgspec
import pytest

from bus import wire
from bus.access.keys import Key, Limits, hash_of, id_of, make, matches, read
from bus.errors import Malformed
from bus.transport.direct import Stored
from bus.transport.parser import Message

NOW_S = 1_800_000_000.0


def stored(data: bytes, key_id: str, head: bytes | None = None) -> Stored:
    return Stored(Message(f"$KV.ANTIPHON_KEYS.{key_id}", "", head, data), 7, "2027-01-15T08:00:00Z")


def test_every_key_is_different_and_holds_its_id() -> None:
    made = [make("acme", Limits(), NOW_S) for _ in range(100)]
    assert len({text for _, text in made}) == len({key.id for key, _ in made}) == 100
    assert all(id_of(text) == key.id for key, text in made)


def test_the_record_holds_no_part_of_the_secret() -> None:
    key, text = make("acme", Limits(), NOW_S)
    kept = wire.encode(key).decode()
    secret = text.removeprefix(f"ak-{key.id}-")
    assert len(secret) == 43
    assert not [secret[start : start + 8] for start in range(36) if secret[start : start + 8] in kept]
    assert (key.hash, key.created_at) == (hash_of(text), datetime.fromtimestamp(NOW_S, UTC))


def test_only_the_complete_key_matches() -> None:
    key, text = make("acme", Limits(), NOW_S)
    other, other_text = make("acme", Limits(), NOW_S)
    assert matches(key, text)
    assert not matches(other, text)
    assert not any(matches(key, wrong) for wrong in (other_text, text[:-1], text + "A", "", key.hash, key.id))
    assert not matches(None, text)
    assert not matches(None, "")  # whose hash stands in where there is no key


@pytest.mark.parametrize("text", ["", "ak-", "sk-0123", "ak-0123456789ab-short", f"ak-0123456789AB-{'x' * 43}", "\0"])
def test_a_text_without_the_form_of_a_key_has_no_id(text: str) -> None:
    assert id_of(text) is None


@pytest.mark.parametrize("tenant", ["", "a.b", "a b", "*", ">", "x" * 65, "café"])
def test_a_tenant_that_is_not_a_token_gets_no_key(tenant: str) -> None:
    with pytest.raises(ValueError, match="1 to 64 characters"):
        make(tenant, Limits(), NOW_S)


def test_a_record_is_read_as_it_was_written() -> None:
    key, _ = make("acme", Limits(requests_per_s=2.5, burst=3), NOW_S)
    revoked = msgspec.structs.replace(key, revoked_at=datetime.fromtimestamp(NOW_S + 1, UTC))
    for each in (key, revoked):
        assert read(stored(wire.encode(each), key.id)) == each


def test_a_deleted_or_malformed_entry_is_no_key() -> None:
    key, _ = make("acme", Limits(), NOW_S)
    data = wire.encode(key)
    assert read(stored(b"", key.id, b"NATS/1.0\r\nKV-Operation: DEL\r\n\r\n")) is None
    assert read(stored(b"hello", key.id)) is None
    assert read(stored(data, "0123456789ab")) is None
    assert read(stored(data.replace(b'"acme"', b'"a.b"'), key.id)) is None


@pytest.mark.parametrize("wrong", [{"requests_per_s": 0}, {"burst": 0}, {"concurrent_jobs": 1.5}, {"burst": -1}])
def test_a_limit_that_permits_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, Limits)
    with pytest.raises(Malformed):
        wire.decode(Key, msgspec.json.encode({"id": "x", "tenant": "t", "hash": "", "limits": wrong}))
