"""vLLM-Omni's WebSocket against the real programs: text in as it is written, sound out."""

import asyncio
import json

import aiohttp
import websockets

from tests.support import fleets
from tests.support.doors import wav_pcm, wav_sizes
from tests.support.fleets import Stack
from tests.support.sockets import VLLM, Talk, talking, tone
from tests.support.tone import tone_pcm

stack = fleets.stack("tone,speech", 1)
http = fleets.http()


async def test_text_that_comes_in_pieces_is_heard_sentence_by_sentence(http: aiohttp.ClientSession) -> None:
    async with talking(http, **tone(seconds=0.3)) as talk:
        await talk.say("Hel", "lo the", "re. How", " are you? ", "Well")
        heard = await talk.until("session.done")
    assert [start["sentence_text"] for start in heard.of("audio.start")] == ["Hello there.", "How are you?", "Well"]
    assert heard.pcm == [tone_pcm(0.3)] * 3
    first = heard.of("audio.start")[0]
    assert (first["utterance_index"], first["sentence_index"], first["format"]) == (0, 0, "pcm")
    assert (first["sample_rate"], first["channels"]) == (24_000, 1)
    assert heard.of("audio.done") == [
        {"type": "audio.done", "utterance_index": 0, "sentence_index": n, "total_bytes": 14_400, "error": False}
        for n in range(3)
    ]
    assert heard.of("session.done") == [{"type": "session.done", "utterance_index": 0, "total_sentences": 3}]
    assert heard.of("error") == []


async def test_several_utterances_on_one_socket_each_with_its_own_config(http: aiohttp.ClientSession) -> None:
    async with talking(http, **tone(seconds=0.2)) as talk:
        await talk.say("First of all. Then ", "this.")
        # Taken while the first is still to be heard: it counts from the next utterance on.
        await talk.tell("session.config", **tone(seconds=0.1, split_granularity="none"))
        await talk.say("All of. This is. One.")
        await talk.say("   ")
        heard = [await talk.until("session.done") for _ in range(3)]
    assert [each.pcm for each in heard] == [[tone_pcm(0.2)] * 2, [tone_pcm(0.1)], []]
    told = [(done["utterance_index"], done["total_sentences"]) for each in heard for done in each.of("session.done")]
    assert told == [(0, 2), (1, 1), (2, 0)]
    assert heard[1].of("audio.start")[0]["sentence_text"] == "All of. This is. One."


async def test_the_first_sentence_is_heard_before_the_text_is_done(http: aiohttp.ClientSession) -> None:
    async with talking(http, **tone(seconds=0.2)) as talk:
        await talk.say("It is heard. N", done=False)
        heard = await talk.until("audio.done")
        assert heard.pcm == [tone_pcm(0.2)]
        await talk.say("ow the rest.")
        assert (await talk.until("session.done")).of("audio.start")[0]["sentence_text"] == "Now the rest."


async def test_without_stream_audio_a_sentence_is_one_message_that_tells_its_length(
    http: aiohttp.ClientSession,
) -> None:
    async with talking(http, model="tone", params={"seconds": 3}) as talk:
        await talk.say("One message.")
        heard = await talk.until("session.done")
    ((body,),) = heard.sounds
    assert wav_pcm(body) == tone_pcm(3)
    assert wav_sizes(body) == (len(body) - 8, len(body) - 44)
    assert heard.of("audio.done")[0]["total_bytes"] == len(body)


async def test_a_sentence_is_an_ordinary_job_of_the_interactive_lane(http: aiohttp.ClientSession) -> None:
    async with talking(http, **tone(seconds=0.1)) as talk:
        await talk.say("Who made this?")
        heard = await talk.until("session.done")
    async with http.get(f"/v1/jobs/{heard.of('audio.start')[0]['job']}") as answer:
        job = await answer.json()
    assert (job["state"], job["model"], job["lane"]) == ("done", "tone", "interactive")


async def test_a_sentence_that_fails_is_told_and_the_next_one_is_heard(http: aiohttp.ClientSession) -> None:
    fault = {"kind": "raise", "at_block": 2}
    async with talking(http, **tone(seconds=0.5, block_ms=50, fault=fault)) as talk:
        await talk.say("This breaks.")
        heard = await talk.until("session.done")
        (error,) = heard.of("error")
        assert error["message"].startswith("Generation failed for utterance 0, sentence 0: ")
        assert (error["code"], error["partial_audio"], error["action"]) == ("engine_failed", True, "discard")
        (done,) = heard.of("audio.done")
        assert (done["error"], done["total_bytes"]) == (True, len(heard.pcm[0]))
        assert heard.pcm[0] == tone_pcm(0.1)
        await talk.tell("session.config", **tone(seconds=0.1))
        await talk.say("This does not.")
        assert (await talk.until("session.done")).pcm == [tone_pcm(0.1)]


async def test_words_have_their_times_where_the_engine_marks_them(http: aiohttp.ClientSession) -> None:
    config = {"model": "speech", "response_format": "pcm", "stream_audio": True, "word_timestamps": True}
    async with talking(http, **config) as talk:
        await talk.say("Good morning, dear listener.")
        heard = await talk.until("session.done")
    assert heard.sounds == [[]]
    *chunks, last = heard.of("audio.chunk")
    assert [chunk["timestamps"] for chunk in chunks] == [None] * len(chunks)
    assert (last["audio_b64"], [word["word"] for word in last["timestamps"]]) == (
        "",
        ["Good", "morning", "dear", "listener"],
    )
    assert [chunk["chunk_id"] for chunk in heard.of("audio.chunk")] == list(range(len(chunks) + 1))
    times = [time for word in last["timestamps"] for time in (word["start_ms"], word["end_ms"])]
    assert times == sorted(times)
    assert times[-1] == chunks[-1]["chunk_end_ms"] == last["chunk_end_ms"]
    async with talking(http, **tone(seconds=0.1, word_timestamps=True)) as talk:
        await talk.say("No words here.")
        assert (await talk.until("session.done")).of("audio.chunk")[-1]["timestamps"] is None


async def test_a_session_that_is_closed_says_what_was_asked_for_first(http: aiohttp.ClientSession) -> None:
    async with talking(http, **tone(seconds=0.2)) as talk:
        await talk.say("Said. Before. Goodbye.")
        await talk.tell("session.close")
        assert (await talk.until("session.done")).pcm == [tone_pcm(0.2)] * 3
        assert await talk.next() == 1000


async def test_an_idempotency_key_names_every_sentence(http: aiohttp.ClientSession) -> None:
    async def jobs() -> list[str]:
        async with http.ws_connect(VLLM, headers={"Idempotency-Key": "one-talk"}) as ws:
            talk = Talk(ws)
            await talk.tell("session.config", **tone(seconds=0.1))
            await talk.say("Once said. Never twice.")
            return [start["job"] for start in (await talk.until("session.done")).of("audio.start")]

    first = await jobs()
    assert len(set(first)) == 2
    assert await jobs() == first


async def test_a_plain_client_of_another_library_is_served(stack: Stack) -> None:
    async with websockets.connect(f"{stack.url.replace('http', 'ws', 1)}{VLLM}") as ws:
        await ws.send(json.dumps({"type": "session.config", **tone(seconds=0.3)}))
        await ws.send(json.dumps({"type": "input.text", "text": "Hello there. "}))
        await ws.send(json.dumps({"type": "input.done"}))
        pcm, told = b"", []
        async with asyncio.timeout(20):
            while not told or told[-1] != "session.done":
                message = await ws.recv()
                if isinstance(message, bytes):
                    pcm += message
                else:
                    told.append(json.loads(message)["type"])
    assert told == ["audio.start", "audio.done", "session.done"]
    assert pcm == tone_pcm(0.3)
