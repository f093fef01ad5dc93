"""What a repeated sentence costs: beside a computed one, with no worker left; and what a hundred at once cost."""

import asyncio
import statistics
import time

import aiohttp
import pytest

from tests.support.doors import SPEECH
from tests.support.programs import Fleet
from tests.support.web import ready

pytestmark = pytest.mark.slow

_SENTENCES = 10


def text_of_200(number: int) -> str:
    words = f"Number {number}. She sells sea shells by the shore, and the shells she sells are surely from the sea. "
    return (words + words + words)[:199] + "."


def mp3(text: str) -> dict[str, object]:
    return {"model": "speech", "input": text, "response_format": "mp3"}


async def timed(http: aiohttp.ClientSession, text: str) -> tuple[float, str, bytes]:
    """Seconds until the whole answer was there, how it was had, and its bytes."""
    began = time.perf_counter()
    async with asyncio.timeout(30), http.post(SPEECH, json=mp3(text)) as answer:
        body = await answer.read()
        assert answer.status == 200, body
        return time.perf_counter() - began, answer.headers["Antiphon-Cache"], body


async def test_a_repeated_sentence_is_whole_ten_times_sooner_and_needs_no_worker(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = fleet.worker("w1", "speech", 2)
    (_, url), (_, other_url) = fleet.gateway(), fleet.gateway()
    async with aiohttp.ClientSession(url) as http, aiohttp.ClientSession(other_url) as elsewhere:
        await ready(http, "")
        await ready(elsewhere, "")
        await timed(http, "warm")
        texts = [text_of_200(number) for number in range(_SENTENCES)]
        assert {len(text) for text in texts} == {200}
        computed = [await timed(http, text) for text in texts]
        begun = len(worker.events("job.started"))
        assert worker.stop() == 0
        again = [await timed(http, text) for text in texts]
        other = [await timed(elsewhere, text) for text in texts]
        other_again = [await timed(elsewhere, text) for text in texts]
    assert {how for _, how, _ in computed} == {"miss"}
    assert {how for _, how, _ in again + other + other_again} == {"hit"}
    assert [body for _, _, body in again] == [body for _, _, body in computed]
    assert begun == _SENTENCES + 1
    first_s, again_s, other_s, kept_s = (
        statistics.median(seconds for seconds, _, _ in each) for each in (computed, again, other, other_again)
    )
    with capsys.disabled():
        print(
            f"\n200 characters of speech as mp3, whole: computed {first_s * 1000:.1f} ms, repeated {again_s * 1000:.1f} ms "
            f"({first_s / again_s:.0f} times sooner); at another gateway {other_s * 1000:.1f} ms, "
            f"there again {kept_s * 1000:.1f} ms ({first_s / kept_s:.0f} times)"
        )
    assert first_s / again_s >= 10
    assert first_s / kept_s >= 10


async def test_a_hundred_equal_sentences_at_once_make_one_run(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    worker = fleet.worker("w1", "speech", 8)
    urls = [fleet.gateway()[1] for _ in range(3)]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        for url in urls:
            await ready(http, url)
        body = {**mp3(text_of_200(7)), "response_format": "pcm"}

        async def asked(url: str) -> tuple[str, bytes]:
            async with asyncio.timeout(30), http.post(f"{url}{SPEECH}", json=body) as answer:
                return answer.headers["Antiphon-Cache"], await answer.read()

        began = time.perf_counter()
        answers = await asyncio.gather(*(asked(urls[number % 3]) for number in range(100)))
        seconds = time.perf_counter() - began
    hows = [how for how, _ in answers]
    with capsys.disabled():
        counts = {how: hows.count(how) for how in sorted(set(hows))}
        print(f"\n100 equal requests at three gateways: {counts}, {seconds * 1000:.0f} ms for all")
    assert len({pcm for _, pcm in answers}) == 1
    assert answers[0][1]
    assert len(worker.events("job.started")) == 1
    assert hows.count("miss") == 1
