"""Voices that tenants upload, through a gateway and a worker whose engine clones."""

import hashlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aiohttp import ClientSession

from bus.jobs.client import Bus, open_bus
from tests.support.blobs import key_of
from tests.support.clips import samples_of, tone_clip, upload
from tests.support.fleets import Stack, small_bus, stack_of
from tests.support.web import ready

CONSENT = "I am the speaker, and I agree."


@pytest.fixture(scope="module")
def stack(nats_url: str) -> Iterator[Stack]:
    with stack_of(small_bus(nats_url), gateway_flags=("--max-voices", "5")) as made:
        yield made


@pytest.fixture
async def http(stack: Stack) -> AsyncIterator[ClientSession]:
    async with ClientSession(stack.url) as session:
        await ready(session, "")
        yield session


@pytest.fixture
async def bus(stack: Stack) -> AsyncIterator[Bus]:
    async with open_bus(stack.settings, "test") as opened:
        yield opened


async def speak(http: ClientSession, voice: Any, headers: dict[str, str] | None = None) -> tuple[int, Any, str]:
    """Status, PCM or the error, and how the cache answered."""
    body = {"model": "tone", "input": "x", "voice": voice, "response_format": "pcm", "params": {"seconds": 0.5}}
    async with http.post("/v1/audio/speech", json=body, headers=headers) as answer:
        content: Any = await answer.read() if answer.status == 200 else await answer.json()
        return answer.status, content, answer.headers.get("Antiphon-Cache", "")


async def test_a_voice_is_uploaded_listed_played_used_and_deleted(http: ClientSession, bus: Bus) -> None:
    own = await key_of(http, bus, "acme")
    clip = tone_clip()
    status, made = await upload(http, "Ada", clip, own, consent=CONSENT, ref_text="La la.")
    assert status == 200, made
    assert (made["object"], made["success"], made["type"]) == ("audio.voice", True, "audio_sample")
    assert made["voice"]["ref_text"] == "La la."  # type: ignore[index]
    assert (made["duration_s"], made["rate_hz"], made["mime_type"]) == (1.5, 24_000, "audio/wav")
    voice = str(made["id"])
    assert await upload(http, "Ada", clip, own, consent=CONSENT, ref_text="La la.") == (200, made), "a retry"

    async with http.get("/v1/audio/voices?model=tone", headers=own) as answer:
        listed = await answer.json()
    assert [each["id"] for each in listed["uploaded_voices"]] == [voice]
    assert (listed["object"], listed["data"]) == ("list", listed["uploaded_voices"])
    async with http.get(f"/v1/audio/voices/{voice}/sample", headers=own) as answer:
        sample = await answer.read()
        assert answer.headers["Cache-Control"] == "private, no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert hashlib.sha256(sample).hexdigest() == made["digest"]
    assert samples_of(sample) == samples_of(clip)

    for name in (voice, "ada", {"id": voice}):
        status, pcm, _ = await speak(http, name, own)
        assert (status, pcm) == (200, samples_of(clip)[: len(pcm)]), name
        assert len(pcm) == 24_000

    async with http.delete(f"/v1/audio/voices/{voice}", headers=own) as answer:
        assert (answer.status, (await answer.json())["deleted"]) == (200, True)
    for method, path in (("DELETE", voice), ("GET", voice), ("GET", f"{voice}/sample")):
        async with http.request(method, f"/v1/audio/voices/{path}", headers=own) as answer:
            assert answer.status == 404
    async with http.head(f"/v1/blobs/{made['digest']}", headers=own) as answer:
        assert answer.status == 404, "the clip goes with its voice"
    status, error, _ = await speak(http, voice, own)
    assert (status, error["error"]["param"]) == (400, "voice")


async def test_a_voice_is_its_tenants_alone(http: ClientSession, bus: Bus) -> None:
    own, other = await key_of(http, bus, "umber"), await key_of(http, bus, "violet")
    _, made = await upload(http, "Grace", tone_clip(), own, consent=CONSENT)
    for headers in (other, {}):
        async with http.get("/v1/audio/voices?model=tone", headers=headers) as answer:
            assert (await answer.json())["uploaded_voices"] == []
        for method, path in (("GET", ""), ("GET", "/sample"), ("DELETE", "")):
            async with http.request(method, f"/v1/audio/voices/{made['id']}{path}", headers=headers) as answer:
                assert answer.status == 404
        status, error, _ = await speak(http, made["id"], headers)
        assert (status, error["error"]["param"]) == (400, "voice")
    status, pcm, _ = await speak(http, made["id"], own)
    assert (status, len(pcm)) == (200, 24_000)


async def test_a_replaced_voice_is_not_answered_from_the_cache(http: ClientSession) -> None:
    first, second = tone_clip(pitch_hz=220), tone_clip(pitch_hz=330)
    _, made = await upload(http, "Mary", first)
    status, before, _ = await speak(http, "Mary")
    _, again, cache = await speak(http, "Mary")
    assert (status, before, again, cache) == (200, samples_of(first)[:24_000], before, "hit")

    status, refused = await upload(http, "mary", second)
    assert (status, refused["error"]["param"]) == (409, "name")  # type: ignore[index]
    status, replaced = await upload(http, "mary", second, replace="true")
    assert (status, replaced["id"]) == (200, made["id"])
    assert replaced["digest"] != made["digest"]
    status, after, cache = await speak(http, made["id"])
    assert (status, after, cache) == (200, samples_of(second)[:24_000], "miss")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("", "name"),
        ("x" * 65, "name"),
        ("a\nb", "name"),
        ("../../etc", "name"),
        ("alloy", "name"),
        ("\u202eabc", "name"),
    ],
)
async def test_names_that_are_refused(http: ClientSession, name: str, path: str) -> None:
    status, refused = await upload(http, name, tone_clip())
    assert (status, refused["error"]["param"]) == (400, path)  # type: ignore[index]


async def test_a_key_must_state_consent_in_words(http: ClientSession, bus: Bus) -> None:
    own = await key_of(http, bus, "wheat")
    for consent in ("", "true"):
        status, refused = await upload(http, "Ann", tone_clip(), own, consent=consent)
        assert (status, refused["error"]["param"]) == (400, "consent")  # type: ignore[index]


async def test_there_is_a_limit_of_voices(http: ClientSession, bus: Bus) -> None:
    own = await key_of(http, bus, "zinc")
    for index in range(5):
        assert (await upload(http, f"v{index}", tone_clip(pitch_hz=200 + index), own, consent=CONSENT))[0] == 200
    status, refused = await upload(http, "v5", tone_clip(), own, consent=CONSENT)
    assert (status, refused["error"]["code"]) == (429, "too_many")  # type: ignore[index]
    assert "the limit is 5" in refused["error"]["message"]  # type: ignore[index]


async def test_a_clip_of_a_voice_is_no_blob_to_remove(http: ClientSession) -> None:
    _, made = await upload(http, "Kept", tone_clip(pitch_hz=440))
    async with http.delete(f"/v1/blobs/{made['digest']}") as answer:
        assert answer.status == 409
