"""Barge-in: who interrupts hears no more of what was being said, and nothing of it keeps the device busy."""

import asyncio

import aiohttp
import pytest

from tests.support import fleets
from tests.support.doors import STEADY, until_state
from tests.support.sockets import after, talking, tone
from tests.support.tone import tone_pcm

stack = fleets.stack("tone", 1)
http = fleets.http()


async def test_barge_in_ends_the_sound_within_a_block_and_frees_the_slot(
    http: aiohttp.ClientSession, capsys: pytest.CaptureFixture[str]
) -> None:
    loop, block_bytes = asyncio.get_running_loop(), 9600
    # At the listener's pace. Neither wish applies to a socket's sentences.
    params = {"seconds": 60, "block_ms": 200, "compute_ms": 200, "device": "own"}
    async with talking(http, **tone(**params), run_on=True, linger_s=60) as talk:
        await talk.say("One is said now. Two is prepared. Three waits. ", done=False)
        playing = (await talk.json())["job"]
        prepared = await after(http, playing)
        await talk.say("Four waits too. And five is not yet whole", done=False)
        before = await talk.sound(2 * block_bytes)
        await talk.tell("input.cancel")
        asked_at = loop.time()
        heard = await talk.until("input.cancelled", begun=True)
        quiet_s = loop.time() - asked_at
        await talk.tell("session.config", **tone(seconds=0.1))
        await talk.say("Somebody else speaks.")
        then_heard = await talk.until("session.done")
        free_s = loop.time() - asked_at
    made_after = (await until_state(http, playing, "cancelled"))["frames"] * 2 - len(before)
    with capsys.disabled():
        print(
            f"\nbarge-in: of the one that was heard {len(heard.pcm[0]) / block_bytes:g} blocks came after input.cancel "
            f"and {made_after / block_bytes:g} were made; quiet after {quiet_s * 1000:.1f} ms, "
            f"the next sentence said on the only slot after {free_s * 1000:.1f} ms"
        )
    assert len(heard.pcm[0]) <= block_bytes
    assert made_after <= block_bytes
    assert (then_heard.pcm, then_heard.of("audio.start")[0]["sentence_text"]) == (
        [tone_pcm(0.1)],
        "Somebody else speaks.",
    )
    assert (await until_state(http, prepared, "cancelled"))["frames"] == 0
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
    assert [job["id"] for job in jobs] == [then_heard.of("audio.start")[0]["job"], prepared, playing]


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
