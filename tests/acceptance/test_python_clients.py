"""The unmodified packages that voice agents are built on, each in an environment of its own, against the real programs.

Each program below is run by the interpreter of that environment, and prints its results as JSON.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import fleets
from tests.support.environments import python_with, ran
from tests.support.fleets import Stack

pytestmark = pytest.mark.slow

stack = fleets.stack("tone,speech", 4)

HELLO = ["Hello", "there.", "How", "are", "you", "today?"]

WITH_LIVEKIT = """\
import asyncio, json, sys
import aiohttp
from livekit.agents import tokenize
from livekit.agents.tts import StreamAdapter
from livekit.plugins import elevenlabs, openai

URL = sys.argv[1] + "/v1"

async def received(stream):
    seconds, words = 0.0, []
    async for event in stream:
        seconds += event.frame.duration
        words += [[str(word), word.start_time] for word in event.frame.userdata.get("lk.timed_transcripts") or []]
    return {"seconds": seconds, "words": words}

async def streamed(tts, *texts):
    stream = tts.stream()
    for text in texts:
        stream.push_text(text)
    stream.end_input()
    return await received(stream)

async def interrupted(tts):
    stream = tts.stream()
    stream.push_text("This is a long text that goes on and on. " * 50)
    stream.end_input()
    async for _ in stream:
        break
    await stream.aclose()

async def main():
    result = {}
    async with aiohttp.ClientSession() as http:
        for model in ("eleven_turbo_v2_5", "eleven_v3"):
            tts = elevenlabs.TTS(base_url=URL, api_key="none", voice_id="en-gb", model=model, http_session=http)
            result[model] = await streamed(tts, "Hello there. ", "How are you ", "today?")
            await interrupted(tts)
            result[model + " after"] = await streamed(tts, "I am still here.")
            result[model + " whole"] = await received(tts.synthesize("Hello there."))
            result["voices"] = len(await tts.list_voices())
            await tts.aclose()
        tts = openai.TTS(base_url=URL, api_key="none", model="tts-1", voice="alloy")
        result["openai"] = await received(tts.synthesize("Hello there."))
        adapter = StreamAdapter(tts=tts, sentence_tokenizer=tokenize.basic.SentenceTokenizer())
        result["adapter"] = await streamed(adapter, "Hello there. ", "How are you today?")
    print(json.dumps(result))

asyncio.run(asyncio.wait_for(main(), 100))
"""
WITH_PIPECAT = """\
import asyncio, json, sys
from pipecat.frames.frames import (
    EndFrame, InterruptionFrame, TTSAudioRawFrame, TTSSpeakFrame, TTSStoppedFrame, TTSTextFrame
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineTask
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.elevenlabs.tts import ElevenLabsTTSService
from pipecat.services.openai.tts import OpenAITTSService

url = sys.argv[1]

class Sink(FrameProcessor):
    def __init__(self):
        super().__init__()
        self.stopped, self.sound, self.interrupted = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.clear()

    def clear(self):
        self.seconds, self.words = 0.0, []
        self.stopped.clear()
        self.sound.clear()

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            self.seconds += len(frame.audio) / 2 / frame.sample_rate
            self.sound.set()
        elif isinstance(frame, TTSTextFrame):
            self.words.append([frame.text, frame.pts])
        elif isinstance(frame, TTSStoppedFrame):
            self.stopped.set()
        elif isinstance(frame, InterruptionFrame):
            self.interrupted.set()
        await self.push_frame(frame, direction)

async def speak(task, sink, text, interrupt=False):
    sink.clear()
    await task.queue_frame(TTSSpeakFrame(text))
    await asyncio.wait_for(sink.sound.wait(), 30)
    if interrupt:
        await task.queue_frame(InterruptionFrame())
        await asyncio.wait_for(sink.interrupted.wait(), 30)
        return
    await asyncio.wait_for(sink.stopped.wait(), 30)
    async with asyncio.timeout(30):
        while not sink.words or not sink.words[-1][0].endswith(text.split()[-1]):
            await asyncio.sleep(0.01)

async def main():
    result = {}
    eleven = ElevenLabsTTSService(
        api_key="none", url=url.replace("http", "ws"), sample_rate=24000,
        settings=ElevenLabsTTSService.Settings(voice="en-gb", model="eleven_turbo_v2_5"),
    )
    openai = OpenAITTSService(
        api_key="none", base_url=url + "/v1", settings=OpenAITTSService.Settings(voice="alloy", model="tts-1")
    )
    for name, tts in (("elevenlabs", eleven), ("openai", openai)):
        sink = Sink()
        task = PipelineTask(Pipeline([tts, sink]))
        async def talk():
            await speak(task, sink, "Hello there, how are you today?")
            first = {"seconds": sink.seconds, "words": sink.words}
            await speak(task, sink, "This is a long text that goes on and on. " * 20, interrupt=True)
            await speak(task, sink, "I am still here.")
            result[name] = {"first": first, "after": {"seconds": sink.seconds, "words": sink.words}}
            await task.queue_frame(EndFrame())
        await asyncio.gather(PipelineRunner(handle_sigint=False).run(task), talk())
    print(json.dumps(result))
asyncio.run(asyncio.wait_for(main(), 100))
"""
WITH_LITELLM = """\
import json, sys
import litellm, openai

URL = sys.argv[1]
result = {}
for model, voice, base in (
    ("openai/tts-1", "alloy", URL + "/v1"),
    ("hosted_vllm/speech", "alloy", URL + "/v1"),
    ("litellm_proxy/tts-1", "alloy", URL + "/v1"),
    ("elevenlabs/eleven_multilingual_v2", "JBFqnCBsd6RMkjVDRZzb", URL),
):
    answer = litellm.speech(model=model, voice=voice, input="Hello there.", api_base=base, api_key="none")
    result[model] = len(answer.content)
try:
    litellm.speech(model="openai/unknown", voice="alloy", input="x", api_base=URL + "/v1", api_key="none", max_retries=0)
except openai.NotFoundError as error:
    result["unknown"] = error.status_code
print(json.dumps(result))
"""


def results(python: Path, program: str, url: str, folder: Path) -> dict[str, Any]:
    """The last line that the program printed."""
    file = folder / "program.py"
    file.write_text(program)
    # litellm would fetch a list of prices.
    printed = ran([python, file, url], folder, 240, LITELLM_LOCAL_MODEL_COST_MAP="True")
    return dict(json.loads(printed.strip().splitlines()[-1]))


def words_of(found: dict[str, Any]) -> list[str]:
    return [word.strip() for word, _ in found["words"]]


def test_livekit_speaks_is_interrupted_and_gets_word_times(stack: Stack, tmp_path: Path) -> None:
    pinned = "1.8.9"
    python = python_with(tmp_path / "env", f"livekit-plugins-elevenlabs=={pinned}", f"livekit-plugins-openai=={pinned}")
    found = results(python, WITH_LIVEKIT, stack.url, tmp_path)
    for model in ("eleven_turbo_v2_5", "eleven_v3"):
        assert words_of(found[model]) == HELLO
        assert 1.5 < found[model]["seconds"] < 4
        assert words_of(found[f"{model} after"]) == ["I", "am", "still", "here."]
        assert found[f"{model} whole"]["seconds"] > 0.5
    # It adds the times of the messages up for dialogues alone.
    times = [time for _, time in found["eleven_v3"]["words"]]
    assert times[0] == 0.0
    assert times == sorted(set(times))
    assert 1.0 < times[-1] < found["eleven_v3"]["seconds"]
    assert found["voices"] > 100
    assert found["openai"]["seconds"] > 0.5
    assert found["adapter"]["seconds"] > 1.5


def test_pipecat_speaks_is_interrupted_and_gets_word_times(stack: Stack, tmp_path: Path) -> None:
    python = python_with(tmp_path / "env", "pipecat-ai[elevenlabs,openai]==1.14.0")
    found = results(python, WITH_PIPECAT, stack.url, tmp_path)
    for name in ("elevenlabs", "openai"):
        assert 1.2 < found[name]["first"]["seconds"] < 4
        assert 0.5 < found[name]["after"]["seconds"] < 3
    assert words_of(found["elevenlabs"]["first"]) == ["Hello", "there,", "how", "are", "you", "today?"]
    assert words_of(found["elevenlabs"]["after"]) == ["I", "am", "still", "here."]
    times = [time for _, time in found["elevenlabs"]["first"]["words"]]
    assert times == sorted(times)
    assert 0.5e9 < times[-1] - times[0] < 3e9  # nanoseconds


def test_litellm_speaks_by_each_provider_that_can_be_us(stack: Stack, tmp_path: Path) -> None:
    python = python_with(tmp_path / "env", "litellm==1.110.2")
    found = results(python, WITH_LITELLM, stack.url, tmp_path)
    assert found.pop("unknown") == 404
    assert len(found) == 4
    assert all(size > 4_000 for size in found.values())
