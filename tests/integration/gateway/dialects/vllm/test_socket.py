"""vLLM-Omni's WebSocket against the real programs: text in as it is written, audio out."""

import asyncio
import json

import aiohttp
import websockets

from tests.support import fleets
from tests.support.doors import wav_pcm, wav_sizes
from tests.support.fleets import Stack
from tests.support.sockets import VLLM, SocketClient, connected, tone
from tests.support.tone import tone_pcm

stack = fleets.stack("tone,speech", 1)
http = fleets.http()


async def test_text_in_pieces_is_played_sentence_by_sentence(http: aiohttp.ClientSession) -> None:
    async with connected(http, **tone(seconds=0.3)) as client:
        await client.send_text("Hel", "lo the", "re. How", " are you? ", "Well")
        received = await client.receive_until("session.done")
    assert [start["sentence_text"] for start in received.of_type("audio.start")] == [
        "Hello there.",
        "How are you?",
        "Well",
    ]
    assert received.pcm == [tone_pcm(0.3)] * 3
    first = received.of_type("audio.start")[0]
    assert (first["utterance_index"], first["sentence_index"], first["format"]) == (0, 0, "pcm")
    assert (first["sample_rate"], first["channels"]) == (24_000, 1)
    assert received.of_type("audio.done") == [
        {"type": "audio.done", "utterance_index": 0, "sentence_index": n, "total_bytes": 14_400, "error": False}
        for n in range(3)
    ]
    assert received.of_type("session.done") == [{"type": "session.done", "utterance_index": 0, "total_sentences": 3}]
    assert received.of_type("error") == []


async def test_an_ssml_document_is_one_sentence(http: aiohttp.ClientSession) -> None:
    document = "<speak>Hello. <break/> You.</speak>"
    async with connected(http, model="speech", response_format="pcm", split_granularity="sentence") as client:
        await client.send_text(*document, " And then. ", "More.")
        received = await client.receive_until("session.done")
    assert [start["sentence_text"] for start in received.of_type("audio.start")] == [document, "And then.", "More."]
    assert received.of_type("error") == []


async def test_what_an_abbreviation_is_depends_on_the_language_of_the_voice(http: aiohttp.ClientSession) -> None:
    found = {}
    for voice in ("da", "it"):
        config = {"voice": voice, "response_format": "pcm", "split_granularity": "sentence"}
        async with connected(http, model="speech", **config) as client:
            await client.send_text("Io sig. ", "Hun.")
            received = await client.receive_until("session.done")
        found[voice] = [start["sentence_text"] for start in received.of_type("audio.start")]
    assert found == {"da": ["Io sig.", "Hun."], "it": ["Io sig. Hun."]}


async def test_several_utterances_on_one_socket_each_with_its_own_config(http: aiohttp.ClientSession) -> None:
    async with connected(http, **tone(seconds=0.2)) as client:
        await client.send_text("First of all. Then ", "this.")
        # Accepted while the first is being played: it applies from the next utterance on.
        await client.send("session.config", **tone(seconds=0.1, split_granularity="none"))
        await client.send_text("All of. This is. One.")
        await client.send_text("   ")
        received = [await client.receive_until("session.done") for _ in range(3)]
    assert [each.pcm for each in received] == [[tone_pcm(0.2)] * 2, [tone_pcm(0.1)], []]
    numbers = [
        (done["utterance_index"], done["total_sentences"]) for each in received for done in each.of_type("session.done")
    ]
    assert numbers == [(0, 2), (1, 1), (2, 0)]
    assert received[1].of_type("audio.start")[0]["sentence_text"] == "All of. This is. One."


async def test_the_first_sentence_is_played_before_the_text_is_complete(http: aiohttp.ClientSession) -> None:
    async with connected(http, **tone(seconds=0.2)) as client:
        await client.send_text("It is played. N", done=False)
        received = await client.receive_until("audio.done")
        assert received.pcm == [tone_pcm(0.2)]
        await client.send_text("ow the rest.")
        assert (await client.receive_until("session.done")).of_type("audio.start")[0][
            "sentence_text"
        ] == "Now the rest."


async def test_without_stream_audio_a_sentence_is_one_file_with_its_length(
    http: aiohttp.ClientSession,
) -> None:
    async with connected(http, model="tone", params={"seconds": 3}) as client:
        await client.send_text("One message.")
        received = await client.receive_until("session.done")
    ((file,),) = received.audio
    assert wav_pcm(file) == tone_pcm(3)
    assert wav_sizes(file) == (len(file) - 8, len(wav_pcm(file)))
    assert received.of_type("audio.done")[0]["total_bytes"] == len(file)


async def test_a_sentence_is_an_ordinary_job_of_the_interactive_lane(http: aiohttp.ClientSession) -> None:
    async with connected(http, **tone(seconds=0.1)) as client:
        await client.send_text("Who made this?")
        received = await client.receive_until("session.done")
    async with http.get(f"/v1/jobs/{received.of_type('audio.start')[0]['job']}") as answer:
        job = await answer.json()
    assert (job["state"], job["model"], job["lane"]) == ("done", "tone", "interactive")


async def test_a_sentence_that_fails_is_reported_and_the_next_one_is_played(http: aiohttp.ClientSession) -> None:
    fault = {"kind": "raise", "at_block": 2}
    async with connected(http, **tone(seconds=0.5, block_ms=50, fault=fault)) as client:
        await client.send_text("This breaks.")
        received = await client.receive_until("session.done")
        (error,) = received.of_type("error")
        assert error["message"].startswith("Generation failed for utterance 0, sentence 0: ")
        assert (error["code"], error["partial_audio"], error["action"]) == ("engine_failed", True, "discard")
        (done,) = received.of_type("audio.done")
        assert (done["error"], done["total_bytes"]) == (True, len(received.pcm[0]))
        assert received.pcm[0] == tone_pcm(0.1)
        await client.send("session.config", **tone(seconds=0.1))
        await client.send_text("This does not.")
        assert (await client.receive_until("session.done")).pcm == [tone_pcm(0.1)]


async def test_words_have_their_times_if_the_engine_marks_them(http: aiohttp.ClientSession) -> None:
    config = {"model": "speech", "response_format": "pcm", "stream_audio": True, "word_timestamps": True}
    async with connected(http, **config) as client:
        await client.send_text("Good morning, dear listener.")
        received = await client.receive_until("session.done")
    assert received.audio == [[]]
    *chunks, last = received.of_type("audio.chunk")
    assert [chunk["timestamps"] for chunk in chunks] == [None] * len(chunks)
    assert (last["audio_b64"], [word["word"] for word in last["timestamps"]]) == (
        "",
        ["Good", "morning", "dear", "listener"],
    )
    assert [chunk["chunk_id"] for chunk in received.of_type("audio.chunk")] == list(range(len(chunks) + 1))
    times = [time for word in last["timestamps"] for time in (word["start_ms"], word["end_ms"])]
    assert times == sorted(times)
    assert times[-1] == chunks[-1]["chunk_end_ms"] == last["chunk_end_ms"]
    async with connected(http, **tone(seconds=0.1, word_timestamps=True)) as client:
        await client.send_text("No words here.")
        assert (await client.receive_until("session.done")).of_type("audio.chunk")[-1]["timestamps"] is None


async def test_a_session_plays_its_queue_before_it_closes(http: aiohttp.ClientSession) -> None:
    async with connected(http, **tone(seconds=0.2)) as client:
        await client.send_text("Said. Before. Goodbye.")
        await client.send("session.close")
        assert (await client.receive_until("session.done")).pcm == [tone_pcm(0.2)] * 3
        assert await client.receive() == 1000


async def test_an_idempotency_key_names_every_sentence(http: aiohttp.ClientSession) -> None:
    async def jobs() -> list[str]:
        async with http.ws_connect(VLLM, headers={"Idempotency-Key": "one-client"}) as ws:
            client = SocketClient(ws)
            await client.send("session.config", **tone(seconds=0.1))
            await client.send_text("Once said. Never twice.")
            return [start["job"] for start in (await client.receive_until("session.done")).of_type("audio.start")]

    first = await jobs()
    assert len(set(first)) == 2
    assert await jobs() == first


async def test_a_plain_client_of_another_library_is_served(stack: Stack) -> None:
    async with websockets.connect(f"{stack.url.replace('http', 'ws', 1)}{VLLM}") as ws:
        await ws.send(json.dumps({"type": "session.config", **tone(seconds=0.3)}))
        await ws.send(json.dumps({"type": "input.text", "text": "Hello there. "}))
        await ws.send(json.dumps({"type": "input.done"}))
        pcm, kinds = b"", []
        async with asyncio.timeout(20):
            while not kinds or kinds[-1] != "session.done":
                message = await ws.recv()
                if isinstance(message, bytes):
                    pcm += message
                else:
                    kinds.append(json.loads(message)["type"])
    assert kinds == ["audio.start", "audio.done", "session.done"]
    assert pcm == tone_pcm(0.3)
