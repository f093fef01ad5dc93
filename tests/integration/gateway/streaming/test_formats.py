"""Every format over HTTP: as it is made, as a file with a length, and by Range."""

import asyncio
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientSession

from bus import wire
from bus.jobs.client import Bus
from bus.settings import BusSettings
from gateway.codecs import FORMATS, Encoding, Format
from gateway.streaming import file
from tests.support import fleets
from tests.support.codecs import decoded, encoded
from tests.support.doors import STEADY, data_at, gateway_here, wav_head_bytes
from tests.support.fleets import Stack
from tests.support.jobs import tone_job
from tests.support.log_writer import finish, take, write_pcm
from tests.support.tone import tone_pcm
from tests.support.web import ready, speech, until_state

SECONDS = 1.3
MP3 = Format("mp3")
#: Seconds that a lossy codec may add around the audio.
AROUND_S = {"mp3": 0.085, "aac": 0.095}

stack = fleets.stack("tone", 8)


@pytest.fixture
async def url(http: ClientSession, stack: Stack) -> str:
    await ready(http, stack.url)
    return stack.url


async def write_tone(bus: Bus, job: wire.Job, seconds: float) -> bytes:
    """Write the log of a submitted job: so many seconds of the tone's signal, in blocks of a second, and its end."""
    pcm = tone_pcm(seconds)
    writer = await take(bus, job)
    await write_pcm(writer, pcm)
    await finish(writer)
    return pcm


@pytest.mark.parametrize("codec", FORMATS)
async def test_a_format_is_the_same_audio_streamed_as_a_file_and_in_pieces(
    http: ClientSession, url: str, codec: str
) -> None:
    form = Format(codec)
    async with http.post(f"{url}/v1/audio/speech", json=speech(response_format=codec, seconds=SECONDS)) as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (200, form.content_type_of(24_000, 1))
        rate_hz, channels = form.media(24_000, 1)
        assert answer.headers["Antiphon-Media"] == wire.media_type(rate_hz, channels)
        streamed, job = await answer.read(), answer.headers["Antiphon-Job"]
    received, heard_hz = decoded(streamed, form, rate_hz, channels)
    assert 0 <= len(received) / heard_hz - SECONDS <= AROUND_S.get(codec, 0.5 / heard_hz)
    if codec in {"pcm", "wav", "flac"}:
        assert received.tobytes() == tone_pcm(SECONDS)

    path = f"{url}/v1/jobs/{job}/audio?format={codec}"
    async with http.get(path) as answer:
        file = await answer.read()
        assert (answer.status, answer.headers["Content-Type"]) == (200, form.content_type_of(24_000, 1))
        assert (answer.content_length, answer.headers["Accept-Ranges"]) == (len(file), "bytes")
        etag = answer.headers["ETag"]
    # WAV and FLAC have their length in the head, if it is known by then.
    begin = data_at(file) if codec == "wav" else 44
    assert file[begin:] == streamed[begin:]
    assert codec in {"wav", "flac"} or file == streamed
    pieces, step = b"", len(file) // 7 + 1
    for start in range(0, len(file), step):
        headers = {"Range": f"bytes={start}-{start + step - 1}", "If-Range": etag}
        async with http.get(path, headers=headers) as answer:
            assert (answer.status, answer.headers["ETag"]) == (206, etag)
            assert answer.headers["Content-Range"] == f"bytes {start}-{min(start + step, len(file)) - 1}/{len(file)}"
            pieces += await answer.read()
    assert pieces == file
    assert np.array_equal(decoded(pieces, form, rate_hz, channels)[0], received)
    async with http.head(path) as answer:
        assert (answer.status, answer.content_length, answer.headers["ETag"]) == (200, len(file), etag)
    async with http.get(path, headers={"If-None-Match": etag}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
    async with http.get(path, headers={"Range": f"bytes={len(file)}-"}) as answer:
        assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{len(file)}")


async def test_a_finished_job_is_had_at_another_rate_and_speed(http: ClientSession, url: str) -> None:
    async with http.post(f"{url}/v1/audio/speech", json=speech(seconds=SECONDS)) as answer:
        assert await answer.read() == tone_pcm(SECONDS)
        job = answer.headers["Antiphon-Job"]
        path = f"{url}/v1/jobs/{job}/audio"
    for query, size in (
        ("format=pcm&rate=8000", 2 * round(8_000 * SECONDS)),
        ("format=pcm&speed=2", 2 * round(12_000 * SECONDS)),
        ("format=wav&rate=48000&speed=0.5", wav_head_bytes(job) + 2 * round(96_000 * SECONDS)),
        ("format=ulaw&speed=4", round(2_000 * SECONDS)),
        ("format=pcm&rate=16000&from_frame=24000", 2 * round(16_000 * (SECONDS - 1))),
    ):
        async with http.get(f"{path}?{query}") as answer:
            assert (answer.status, answer.content_length, len(await answer.read())) == (200, size, size), query
        async with http.get(f"{path}?{query}", headers={"Range": "bytes=50-99"}) as answer:
            assert (answer.status, len(await answer.read())) == (206, 50)
    async with http.get(f"{path}?format=mp3&rate=16000&bitrate=32000") as answer:
        assert answer.headers["Antiphon-Media"] == "audio/L16;rate=16000;channels=1"
        assert decoded(await answer.read(), Format("mp3"), 0, 1)[1] == 16_000


@pytest.mark.parametrize("codec", ["mp3", "ulaw"])
async def test_hanging_up_in_the_middle_of_an_encoded_stream_frees_the_worker(
    http: ClientSession, url: str, codec: str
) -> None:
    async with http.post(f"{url}/v1/audio/speech", json=speech(response_format=codec, seconds=60, **STEADY)) as answer:
        assert len(await answer.content.readexactly(500)) == 500
        job = answer.headers["Antiphon-Job"]
        answer.close()
    await until_state(http, url, job, "cancelled", within_s=30)


@pytest.mark.parametrize(
    ("query", "field", "says"),
    [
        ("format=midi", "format", "'midi' is not one of wav, pcm, mp3, opus, aac, flac, ulaw, alaw"),
        ("format=mp3&rate=24001", "rate", "not 24001"),
        ("format=mp3&rate=-1", "rate", "not '-1'"),
        ("format=flac&bitrate=64000", "bitrate", "flac has no bitrate to choose"),
        ("speed=5", "speed", "from 0.25 to 4, not 5"),
        ("speed=fast", "speed", "not 'fast'"),
    ],
)
async def test_a_format_that_cannot_be_had_is_refused_by_the_name_of_its_field(
    http: ClientSession, url: str, query: str, field: str, says: str
) -> None:
    async with http.get(f"{url}/v1/jobs/j1/audio?{query}") as answer:
        problem = await answer.json()
    assert (answer.status, problem["code"], problem["path"]) == (422, "invalid", field)
    assert says in problem["detail"]


async def test_a_job_beyond_the_limit_is_streamed_and_a_range_of_it_is_the_whole(bus_settings: BusSettings) -> None:
    async with gateway_here(bus_settings, encoded_max_s=2.0) as (gateway, http):
        job = tone_job()
        await gateway.jobs.accept(job)
        pcm = await write_tone(gateway.bus, job, 2.5)
        path = f"/v1/jobs/{job.id}/audio?format=flac"
        for headers in ({}, {"Range": "bytes=0-9"}):
            async with http.get(path, headers=headers) as answer:
                assert (answer.status, answer.content_length, answer.headers["Accept-Ranges"]) == (200, None, "none")
                assert "ETag" not in answer.headers
                assert decoded(await answer.read(), Format("flac"), 0, 1)[0].tobytes() == pcm
        async with http.head(path) as answer:
            assert (answer.status, answer.headers["Accept-Ranges"]) == (200, "none")
        async with http.get(f"{path}&from_frame=24000", headers={"Range": "bytes=0-9"}) as answer:
            assert (answer.status, len(await answer.read())) == (206, 10)
        # Played slowly it is longer; PCM and WAV of the job's own have no limit.
        async with http.get(f"/v1/jobs/{job.id}/audio?format=pcm&from_frame=24000&speed=0.5") as answer:
            assert answer.headers["Accept-Ranges"] == "none"
        begin = wav_head_bytes(job.id)
        async with http.get(f"/v1/jobs/{job.id}/audio", headers={"Range": f"bytes={begin}-{begin + 9}"}) as answer:
            assert (answer.status, await answer.read()) == (206, pcm[:10])


async def test_a_file_that_would_fill_the_cache_is_only_streamed(bus_settings: BusSettings) -> None:
    async with gateway_here(bus_settings, encoded_cache_bytes=50_000) as (gateway, http):
        job = tone_job()
        await gateway.jobs.accept(job)
        await write_tone(gateway.bus, job, 1.0)
        for codec, kept in (("flac", "none"), ("mp3", "bytes")):
            async with http.get(f"/v1/jobs/{job.id}/audio?format={codec}") as answer:
                assert answer.headers["Accept-Ranges"] == kept


async def test_a_longer_job_begins_at_once_and_is_a_file_afterwards(
    bus_settings: BusSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway_here(bus_settings) as (gateway, http):
        job = tone_job()
        await gateway.jobs.accept(job)
        await write_tone(gateway.bus, job, 31.0)
        path = f"/v1/jobs/{job.id}/audio?format=opus"
        async with http.get(path) as answer:
            assert (answer.content_length, answer.headers["Accept-Ranges"]) == (None, "bytes")
            streamed = await answer.read()
        made = count_encodings(monkeypatch)
        async with http.get(path, headers={"Range": "bytes=100-"}) as answer:
            assert (answer.status, await answer.read()) == (206, streamed[100:])
        async with http.get(path) as answer:
            assert (answer.content_length, await answer.read()) == (len(streamed), streamed)
        assert made == []
        # A request for a part of a file that is not cached waits until the file is encoded.
        async with http.get(f"{path}&from_frame=2", headers={"Range": "bytes=-5"}) as answer:
            assert (answer.status, len(await answer.read())) == (206, 5)
        assert len(made) == 1


async def test_parts_requested_at_the_same_time_are_encoded_once(
    bus_settings: BusSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway_here(bus_settings) as (gateway, http):
        job = tone_job()
        await gateway.jobs.accept(job)
        pcm = await write_tone(gateway.bus, job, 1.0)
        wanted = b"".join(await encoded(MP3, 24_000, pcm, 5_000, tag=MP3.tag(job)))
        made = count_encodings(monkeypatch)

        async def piece(start: int) -> bytes:
            headers = {"Range": f"bytes={start}-{start + 999}"}
            async with http.get(f"/v1/jobs/{job.id}/audio?format=mp3", headers=headers) as answer:
                assert answer.status == 206
                return await answer.read()

        assert b"".join(await asyncio.gather(*map(piece, range(0, len(wanted), 1_000)))) == wanted
        assert len(made) == 1


def count_encodings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    made: list[Any] = []

    class Counted(Encoding):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            made.append(self)

    monkeypatch.setattr(file, "Encoding", Counted)
    return made
