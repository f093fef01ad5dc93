"""Headers of requests."""

import pytest
from aiohttp.test_utils import make_mocked_request

from bus import wire
from bus.errors import Invalid
from bus.script import Turn
from gateway.http.headers import idempotency_key, refuses_cache, traceparent, voice_headers, wants_fresh

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("text", "kept"), [(TRACE, TRACE), (TRACE[:-1], ""), (TRACE + "0", ""), ("é" * 55, ""), ("", ""), (None, "")]
)
def test_trace_context_that_cannot_be_one_is_dropped(text: str | None, kept: str) -> None:
    assert traceparent(text) == kept


@pytest.mark.parametrize(
    ("headers", "refuses", "fresh"),
    [
        ({}, False, False),
        ({"Cache-Control": "No-Store"}, True, False),
        ({"Cache-Control": "max-age=0, no-cache"}, False, True),
        ({"Cache-Control": "no-cache", "Upgrade": "websocket"}, False, False),
    ],
)
def test_cache_control_asks_for_a_run_of_its_own_or_a_new_one(
    headers: dict[str, str], refuses: bool, fresh: bool
) -> None:
    request = make_mocked_request("POST", "/", headers=headers)
    assert (refuses_cache(request), wants_fresh(request)) == (refuses, fresh)


def test_an_idempotency_key_has_1_to_255_characters() -> None:
    assert idempotency_key(make_mocked_request("POST", "/")) == ""
    assert idempotency_key(make_mocked_request("POST", "/", headers={"Idempotency-Key": "k" * 255})) == "k" * 255
    for wrong in ("", "k" * 256):
        with pytest.raises(Invalid, match=rf"has {len(wrong)} characters.*1 to 255"):
            idempotency_key(make_mocked_request("POST", "/", headers={"Idempotency-Key": wrong}))


def test_the_voices_of_a_script_are_listed_once_with_their_digests() -> None:
    script = [Turn(text="x", voice=voice) for voice in ("b", "a c", "b")]
    job = wire.Job(script=script, model="piper", version="v1", voice="z", voice_digests={"b": "58af", "z": "00"})
    assert voice_headers(job) == {
        "Antiphon-Voice": 'b;model=piper;version=v1;sha256="58af", a%20c;model=piper;version=v1'
    }
    many = wire.Job(script=[Turn(text="x", voice=f"{n}") for n in range(1000)], model="m", version="v1")
    assert voice_headers(many)["Antiphon-Voice"].count(";model=m") == 32
    assert voice_headers(wire.Job(script=[Turn(text="x")])) == {}
