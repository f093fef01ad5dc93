"""Voices that tenants upload, through a gateway and a worker whose engine clones."""

import hashlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aiohttp import ClientSession, FormData

from bus.jobs.client import Bus, open_bus
from tests.support.blobs import key_of
from tests.support.clips import samples_of, tone_clip, upload, wav
from tests.support.fleets import Stack, small_bus, stack_of
from tests.support.web import ready

pytestmark = pytest.mark.slow

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

    body = {"model": "tone", "input": "x", "voice": "Ada", "params": {"seconds": 0.1}}
    async with http.post("/v1/audio/speech", json=body, headers=own) as answer:
        assert answer.headers["Antiphon-Voice"] == f'{voice};model=tone;version=v1;sha256="{made["digest"]}"'
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


async def test_a_second_clip_and_no_clip_are_refused(http: ClientSession) -> None:
    for count in (0, 2):
        form = FormData({"name": "Two"})
        for _ in range(count):
            form.add_field("audio_sample", tone_clip(), filename="a.wav")
        form.add_field("other", b"x", filename="other")
        async with http.post("/v1/audio/voices", data=form) as answer:
            assert (answer.status, (await answer.json())["error"]["param"]) == (400, "audio_sample")


async def test_a_file_that_is_too_large_is_refused_and_nothing_is_kept(http: ClientSession) -> None:
    status, refused = await upload(http, "Large", tone_clip() + bytes(10 << 20))
    assert (status, refused["error"]["code"]) == (413, "too_large")  # type: ignore[index]
    async with http.post("/v1/audio/voices", json={"type": "prompt"}) as answer:
        assert answer.status == 415
    async with http.get("/v1/audio/voices/Large") as answer:
        assert answer.status == 404


async def test_a_hostile_file_is_refused_and_the_next_upload_succeeds(http: ClientSession) -> None:
    for data in (b"", b"<html>", wav(bytes(96_000))):
        status, refused = await upload(http, "Mallory", data)
        assert (status, refused["error"]["param"]) == (400, "audio_sample")  # type: ignore[index]
    assert (await upload(http, "Mallory", tone_clip(pitch_hz=500)))[0] == 200


async def test_elevenlabs_clients_add_list_use_and_delete_a_voice(http: ClientSession, bus: Bus) -> None:
    own = await key_of(http, bus, "teal")
    clip = tone_clip(pitch_hz=250)
    form = FormData({"name": "Eve", "consent": CONSENT, "description": "calm"})
    form.add_field("files[]", clip, filename="eve.wav", content_type="audio/wav")
    async with http.post("/v1/voices/add", data=form, headers=own) as answer:
        added = await answer.json()
        assert (answer.status, added["requires_verification"]) == (200, False), added
    voice = added["voice_id"]
    for path in ("/v1/voices", "/v1/voices?model=tone", "/v2/voices?category=cloned", "/v2/voices?voice_type=personal"):
        async with http.get(path, headers=own) as answer:
            listed = [each for each in (await answer.json())["voices"] if each["category"] == "cloned"]
        assert [(each["voice_id"], each["name"], each["model"]) for each in listed] == [(voice, "Eve", "tone")], path
        async with http.get(path) as answer:
            assert voice not in [each["voice_id"] for each in (await answer.json())["voices"]]
    async with http.get(f"/v1/voices/{voice}", headers=own) as answer:
        assert (await answer.json())["description"] == "calm"
    body = {"text": "x", "model_id": "tone", "params": {"seconds": 0.5}}
    async with http.post(f"/v1/text-to-speech/{voice}?output_format=pcm_24000", json=body, headers=own) as answer:
        assert await answer.read() == samples_of(clip)[:24_000]
    async with http.delete(f"/v1/voices/{voice}", headers=own) as answer:
        assert await answer.json() == {"status": "ok"}
    async with http.delete(f"/v1/voices/{voice}", headers=own) as answer:
        assert answer.status == 404

    form = FormData({"name": "Eve"})
    form.add_field("files", clip, filename="eve.wav")
    async with http.post("/v1/voices/add", data=form, headers=own) as answer:
        assert answer.status == 422, "with a key, consent is stated in words"
