"""Barge-in: a client that interrupts receives no more of the audio being played, and no job of it stays on the device."""

import asyncio
from typing import NamedTuple

import aiohttp
import pytest

from tests.support import fleets
from tests.support.doors import STEADY, until_state
from tests.support.sockets import connected, job_after, tone
from tests.support.tone import tone_pcm

stack = fleets.stack("tone", 1)
http = fleets.http()


#: Bytes of a block of 200 ms, which is made in 200 ms.
BLOCK_BYTES = 9600
#: Attempts until one is as quick as it should be: a pause of any program in the middle of one spoils its figures.
TRIES = 6


class Quickness(NamedTuple):
    """The figures of one barge-in."""

    received_bytes: int
    made_bytes: int
    #: Frames made of the sentence that was prefetched.
    prefetched_frames: int
    quiet_s: float
    free_s: float

    @property
    def is_good(self) -> bool:
        return max(self.received_bytes, self.made_bytes) <= BLOCK_BYTES and not self.prefetched_frames


async def barge_in(http: aiohttp.ClientSession, number: int) -> Quickness:
    """Interrupt a sentence and send another. `number` makes the sentences distinct, so that none is in the cache."""
    loop = asyncio.get_running_loop()
    # `run_on` and `linger_s` do not apply to the sentences of a socket.
    params = {"seconds": 60, "block_ms": 200, "compute_ms": 200, "device": "own"}
    async with connected(http, **tone(**params), run_on=True, linger_s=60) as client:
        await client.send_text(
            f"One is played now, in {number}. Two is prefetched in {number}. Three waits. ", done=False
        )
        playing = (await client.receive_json())["job"]
        prefetched = await job_after(http, playing)
        await client.send_text("Four waits too. And five is not yet whole", done=False)
        before = await client.receive_audio(2 * BLOCK_BYTES)
        await client.send("input.cancel")
        sent_at = loop.time()
        received = await client.receive_until("input.cancelled", has_started=True)
        quiet_s = loop.time() - sent_at
        await client.send("session.config", **tone(seconds=0.1))
        await client.send_text(f"Another sentence in {number}.")
        then_received = await client.receive_until("session.done")
        free_s = loop.time() - sent_at
    made_bytes = (await until_state(http, playing, "cancelled"))["frames"] * 2 - len(before)
    prefetched_frames = (await until_state(http, prefetched, "cancelled"))["frames"]
    (then_started,) = then_received.of_type("audio.start")
    assert (then_received.pcm, then_started["sentence_text"]) == ([tone_pcm(0.1)], f"Another sentence in {number}.")
    assert received.of_type("audio.done") == [
        {
            "type": "audio.done",
            "utterance_index": 0,
            "sentence_index": 0,
            "total_bytes": len(before) + len(received.pcm[0]),
            "error": False,
            "cancelled": True,
        }
    ]
    done = {"type": "session.done", "utterance_index": 0, "total_sentences": 1, "cancelled": True}
    assert received.of_type("session.done") == [done]
    assert received.messages[-1] == {"type": "input.cancelled", "unsaid_sentences": 3}
    # One job is prefetched, no more.
    jobs = (await (await http.get("/v1/jobs?limit=3")).json())["jobs"]
    assert [job["id"] for job in jobs] == [then_started["job"], prefetched, playing]
    return Quickness(len(received.pcm[0]), made_bytes, prefetched_frames, quiet_s, free_s)


async def test_barge_in_ends_the_audio_within_a_block_and_frees_the_slot(
    http: aiohttp.ClientSession, capsys: pytest.CaptureFixture[str]
) -> None:
    took = [await barge_in(http, 0)]
    while not took[-1].is_good and len(took) < TRIES:
        took.append(await barge_in(http, len(took)))
    last = took[-1]
    with capsys.disabled():
        print(
            f"\nbarge-in: of the interrupted sentence {last.received_bytes / BLOCK_BYTES:g} blocks came after input.cancel "
            f"and {last.made_bytes / BLOCK_BYTES:g} were made; quiet after {last.quiet_s * 1000:.1f} ms, "
            f"the next sentence played on the only slot after {last.free_s * 1000:.1f} ms; barge-in {len(took)} of {TRIES}"
        )
    assert last.is_good, took


async def test_barge_in_ends_every_utterance_and_the_incomplete_one(http: aiohttp.ClientSession) -> None:
    async with connected(http, **tone(seconds=60, **STEADY)) as client:
        await client.send("input.cancel")
        assert await client.receive_json() == {"type": "input.cancelled", "unsaid_sentences": 0}
        await client.send_text("First utterance.")
        await client.send_text("Second utterance. Of two.")
        await client.send_text("Third, not", done=False)
        await client.receive_json()
        await client.send("input.cancel")
        received = await client.receive_until("input.cancelled", has_started=True)
        ended = [(done["utterance_index"], done["total_sentences"]) for done in received.of_type("session.done")]
        assert ended == [(0, 1), (1, 0), (2, 0)]
        assert all(done["cancelled"] for done in received.of_type("session.done"))
        await client.send("session.config", **tone(seconds=0.1))
        await client.send_text("Again.")
        assert (await client.receive_until("session.done")).of_type("audio.start")[0]["utterance_index"] == 3


async def test_barge_in_drops_text_that_is_no_sentence_yet(http: aiohttp.ClientSession) -> None:
    async with connected(http, **tone(seconds=0.1)) as client:
        await client.send_text("I was about to", done=False)
        await client.send("input.cancel")
        await client.receive_until("input.cancelled")
        await client.send_text("Play this.")
        received = await client.receive_until("session.done")
    assert [start["sentence_text"] for start in received.of_type("audio.start")] == ["Play this."]


async def test_a_client_that_leaves_ends_the_job_that_is_played_and_the_prefetched_one(
    http: aiohttp.ClientSession,
) -> None:
    async with connected(http, **tone(seconds=60, **STEADY)) as client:
        await client.send_text("This is played. This is prefetched! And this waits.")
        playing = (await client.receive_json())["job"]
        prefetched = await job_after(http, playing)
    await until_state(http, playing, "cancelled")
    await until_state(http, prefetched, "cancelled")


async def test_barge_in_after_session_close_closes_the_socket(http: aiohttp.ClientSession) -> None:
    async with connected(http, **tone(seconds=60, **STEADY)) as client:
        await client.send_text("This is the last sentence.")
        await client.send("session.close")
        await client.receive_until("audio.start")
        await client.send("input.cancel")
        await client.receive_until("input.cancelled", has_started=True)
        assert await client.receive() == 1000
