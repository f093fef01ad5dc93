"""Barge-in: who interrupts hears no more of what was being said, and nothing of it keeps the device busy."""

import asyncio
from typing import NamedTuple

import aiohttp
import pytest

from tests.support import fleets
from tests.support.doors import STEADY, until_state
from tests.support.sockets import after, talking, tone
from tests.support.tone import tone_pcm

stack = fleets.stack("tone", 1)
http = fleets.http()


#: Of a block of 200 ms, at the listener's pace.
BLOCK_BYTES = 9600
#: Barge-ins until one is as quick as it should be: a pause of any program in the middle of one spoils its figures.
TRIES = 6


class Quickness(NamedTuple):
    """What a barge-in took."""

    heard_bytes: int
    made_bytes: int
    #: Of the sentence that was prepared.
    prepared_frames: int
    quiet_s: float
    free_s: float

    @property
    def is_good(self) -> bool:
        return max(self.heard_bytes, self.made_bytes) <= BLOCK_BYTES and not self.prepared_frames


async def barge_in(http: aiohttp.ClientSession, number: int) -> Quickness:
    """Interrupt somebody in the middle of a sentence, and be somebody else. `number`: no sentence is said a second time."""
    loop = asyncio.get_running_loop()
    # Neither wish applies to a socket's sentences.
    params = {"seconds": 60, "block_ms": 200, "compute_ms": 200, "device": "own"}
    async with talking(http, **tone(**params), run_on=True, linger_s=60) as talk:
        await talk.say(f"One is said now, in {number}. Two is prepared in {number}. Three waits. ", done=False)
        playing = (await talk.json())["job"]
        prepared = await after(http, playing)
        await talk.say("Four waits too. And five is not yet whole", done=False)
        before = await talk.sound(2 * BLOCK_BYTES)
        await talk.tell("input.cancel")
        asked_at = loop.time()
        heard = await talk.until("input.cancelled", begun=True)
        quiet_s = loop.time() - asked_at
        await talk.tell("session.config", **tone(seconds=0.1))
        await talk.say(f"Somebody else speaks in {number}.")
        then_heard = await talk.until("session.done")
        free_s = loop.time() - asked_at
    made_bytes = (await until_state(http, playing, "cancelled"))["frames"] * 2 - len(before)
    prepared_frames = (await until_state(http, prepared, "cancelled"))["frames"]
    (then_started,) = then_heard.of("audio.start")
    assert (then_heard.pcm, then_started["sentence_text"]) == ([tone_pcm(0.1)], f"Somebody else speaks in {number}.")
    assert heard.of("audio.done") == [
        {
            "type": "audio.done",
            "utterance_index": 0,
            "sentence_index": 0,
            "total_bytes": len(before) + len(heard.pcm[0]),
            "error": False,
            "cancelled": True,
        }
    ]
    done = {"type": "session.done", "utterance_index": 0, "total_sentences": 1, "cancelled": True}
    assert heard.of("session.done") == [done]
    assert heard.messages[-1] == {"type": "input.cancelled", "unsaid_sentences": 3}
    # One ahead, no more: of the others no job was made.
    jobs = (await (await http.get("/v1/jobs?limit=3")).json())["jobs"]
    assert [job["id"] for job in jobs] == [then_started["job"], prepared, playing]
    return Quickness(len(heard.pcm[0]), made_bytes, prepared_frames, quiet_s, free_s)


async def test_barge_in_ends_the_sound_within_a_block_and_frees_the_slot(
    http: aiohttp.ClientSession, capsys: pytest.CaptureFixture[str]
) -> None:
    took = [await barge_in(http, 0)]
    while not took[-1].is_good and len(took) < TRIES:
        took.append(await barge_in(http, len(took)))
    last = took[-1]
    with capsys.disabled():
        print(
            f"\nbarge-in: of the one that was heard {last.heard_bytes / BLOCK_BYTES:g} blocks came after input.cancel "
            f"and {last.made_bytes / BLOCK_BYTES:g} were made; quiet after {last.quiet_s * 1000:.1f} ms, "
            f"the next sentence said on the only slot after {last.free_s * 1000:.1f} ms; barge-in {len(took)} of {TRIES}"
        )
    assert last.is_good, took


async def test_barge_in_ends_every_utterance_and_the_text_that_was_begun(http: aiohttp.ClientSession) -> None:
    async with talking(http, **tone(seconds=60, **STEADY)) as talk:
        await talk.tell("input.cancel")
        assert await talk.json() == {"type": "input.cancelled", "unsaid_sentences": 0}
        await talk.say("First utterance.")
        await talk.say("Second utterance. Of two.")
        await talk.say("Third, not", done=False)
        await talk.json()
        await talk.tell("input.cancel")
        heard = await talk.until("input.cancelled", begun=True)
        told = [(done["utterance_index"], done["total_sentences"]) for done in heard.of("session.done")]
        assert told == [(0, 1), (1, 0), (2, 0)]
        assert all(done["cancelled"] for done in heard.of("session.done"))
        await talk.tell("session.config", **tone(seconds=0.1))
        await talk.say("Anew.")
        assert (await talk.until("session.done")).of("audio.start")[0]["utterance_index"] == 3


async def test_text_that_was_no_sentence_yet_is_forgotten(http: aiohttp.ClientSession) -> None:
    async with talking(http, **tone(seconds=0.1)) as talk:
        await talk.say("I was about to", done=False)
        await talk.tell("input.cancel")
        await talk.until("input.cancelled")
        await talk.say("Say this.")
        heard = await talk.until("session.done")
    assert [start["sentence_text"] for start in heard.of("audio.start")] == ["Say this."]


async def test_leaving_ends_what_is_said_and_what_is_prepared(http: aiohttp.ClientSession) -> None:
    async with talking(http, **tone(seconds=60, **STEADY)) as talk:
        await talk.say("This is heard. This is left! And this too.")
        playing = (await talk.json())["job"]
        prepared = await after(http, playing)
    await until_state(http, playing, "cancelled")
    await until_state(http, prepared, "cancelled")


async def test_barge_in_after_a_goodbye_is_the_end(http: aiohttp.ClientSession) -> None:
    async with talking(http, **tone(seconds=60, **STEADY)) as talk:
        await talk.say("This is the last thing that I say.")
        await talk.tell("session.close")
        await talk.until("audio.start")
        await talk.tell("input.cancel")
        await talk.until("input.cancelled", begun=True)
        assert await talk.next() == 1000
