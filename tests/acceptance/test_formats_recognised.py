"""A recogniser that has never seen our code hears the sentence in every format, streamed, as a file, and in pieces."""

import numpy as np
import pytest
from aiohttp import ClientSession

from gateway.codecs import FORMATS, Format
from tests.support import fleets
from tests.support.asr import recognised
from tests.support.codecs import decoded
from tests.support.fleets import Stack
from tests.support.web import ready

pytestmark = pytest.mark.slow

SENTENCES = (
    "go forward ten meters",
    "the quick brown fox jumps over the lazy dog",
    "please turn on the light in the kitchen",
    "we are ready to publish the next part of the story",
    "one two three four five six seven eight nine ten",
    "the weather is nice today",
    "open the door and close the window",
    "music and speech are on their way to you",
)
SENTENCE = SENTENCES[1]

stack = fleets.stack("speech", 8)


@pytest.fixture
async def url(http: ClientSession, stack: Stack) -> str:
    await ready(http, stack.url)
    return stack.url


def said(body: bytes, form: Format) -> str | None:
    samples, rate_hz = decoded(body, form, *form.media(22_050, 1))
    return recognised(samples[:, 0].astype(np.int16).tobytes(), rate_hz, SENTENCES)


@pytest.mark.parametrize("codec", FORMATS)
async def test_the_sentence_is_heard_in_each_format(http: ClientSession, url: str, codec: str) -> None:
    form = Format(codec)
    body = {"model": "speech", "input": SENTENCE, "response_format": codec}
    async with http.post(f"{url}/v1/audio/speech", json=body) as answer:
        assert answer.status == 200, await answer.text()
        assert said(await answer.read(), form) == SENTENCE
        path = f"{url}/v1/jobs/{answer.headers['Antiphon-Job']}/audio?format={codec}"
    async with http.get(path) as answer:
        file = await answer.read()
    assert said(file, form) == SENTENCE
    pieces = b""
    while len(pieces) < len(file):
        async with http.get(path, headers={"Range": f"bytes={len(pieces)}-{len(pieces) + 9_999}"}) as answer:
            pieces += await answer.read()
    assert pieces == file


@pytest.mark.parametrize(
    "query", ["format=mp3&speed=1.2", "format=opus&speed=0.8", "format=flac&rate=16000", "format=wav&rate=48000"]
)
async def test_the_sentence_is_heard_at_another_speed_and_rate(http: ClientSession, url: str, query: str) -> None:
    body = {"model": "speech", "input": SENTENCE, "response_format": "pcm"}
    async with http.post(f"{url}/v1/audio/speech", json=body) as answer:
        job, seconds = answer.headers["Antiphon-Job"], len(await answer.read()) / 2 / 22_050
    async with http.get(f"{url}/v1/jobs/{job}/audio?{query}") as answer:
        assert answer.status == 200, await answer.text()
        form = Format(query.partition("&")[0].removeprefix("format="))
        samples, rate_hz = decoded(await answer.read(), form, 22_050, 1)
    speed = float(query.partition("speed=")[2] or 1)
    assert len(samples) / rate_hz == pytest.approx(seconds / speed, abs=0.1)
    assert recognised(samples[:, 0].tobytes(), rate_hz, SENTENCES) == SENTENCE
