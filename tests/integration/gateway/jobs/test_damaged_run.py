"""An identical request is not answered by a damaged log: it runs anew, from the first frame that is lost."""

import aiohttp
import pytest

from bus.jobs.client import open_bus
from bus.settings import BusSettings
from tests.support import fleets
from tests.support.doors import SPEECH, tone
from tests.support.fleets import Stack
from tests.support.tone import tone_pcm

stack = fleets.stack()
http = fleets.http()


async def lose(settings: BusSettings, job_id: str, number: int) -> None:
    """Remove an entry of a finished job of `public`, as a damaged store does."""
    async with open_bus(settings, "test", declare=False) as bus:
        key = bus.subjects.job_key("public", job_id)
        page, _ = await bus.js.direct.page(bus.subjects.replies_stream, key.entries, 1)
        assert number < len(page) - 1  # the last one is the end
        await bus.js.delete(bus.subjects.replies_stream, page[number].seq)


@pytest.mark.parametrize("number", [0, 1])
async def test_an_identical_request_runs_anew_where_a_log_is_damaged(
    stack: Stack, http: aiohttp.ClientSession, number: int
) -> None:
    body = tone(input=f"damaged {number}", response_format="pcm", params={"seconds": 0.5, "block_ms": 100})
    answers = []
    for _ in range(3):
        async with http.post(SPEECH, json=body) as answer:
            answers.append((answer.status, await answer.read(), answer.headers["Antiphon-Job"]))
        if len(answers) == 1:
            await lose(stack.settings, answers[0][2], number)
    assert [(status, pcm) for status, pcm, _ in answers] == [(200, tone_pcm(0.5))] * 3
    # The one after that finds the new run.
    assert answers[2][2] == f"{answers[0][2]}-1"
