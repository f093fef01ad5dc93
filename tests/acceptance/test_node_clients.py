"""The unmodified packages of npm that speak OpenAI's and ElevenLabs' APIs, against the real programs."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import fleets
from tests.support.doors import until_state
from tests.support.environments import node_with, ran
from tests.support.fleets import Stack

pytestmark = pytest.mark.slow

stack = fleets.stack("tone,speech,music", 4)
http = fleets.http()

WITH_ELEVENLABS = """\
import { ElevenLabsClient } from "@elevenlabs/elevenlabs-js";
const client = new ElevenLabsClient({ baseUrl: process.argv[2], apiKey: "none" });
const voice = "JBFqnCBsd6RMkjVDRZzb";
const outcome = {};
async function size(stream) {
  let bytes = 0;
  for await (const chunk of stream) bytes += chunk.length;
  return bytes;
}
const text = "Hello there.";
outcome.convert = await size(await client.textToSpeech.convert(voice, { text, outputFormat: "pcm_24000" }));
outcome.stream = await size(await client.textToSpeech.stream(voice, { text, outputFormat: "mp3_44100_128" }));
const timed = await client.textToSpeech.convertWithTimestamps(voice, { text });
outcome.characters = timed.alignment.characters.join("");
outcome.models = (await client.models.list()).map((model) => model.modelId);
outcome.quota = (await client.user.subscription.get()).characterLimit;
outcome.workspace = (await client.user.get()).workspaceId;
outcome.speed = (await client.voices.settings.getDefault()).speed;
outcome.voiceSpeed = (await client.voices.settings.get("de")).speed;
outcome.history = (await client.history.list()).history.length;
outcome.tuning = (await client.voices.get("de")).fineTuning.isAllowedToFineTune;
outcome.searched = (await client.voices.search({ pageSize: 5 })).voices.length;
const inputs = [{ text: "Who is there?", voiceId: "en-gb" }, { text: "Ich.", voiceId: "de" }];
outcome.dialogue = await size(await client.textToDialogue.convert({ inputs, outputFormat: "pcm_24000" }));
const plan = await client.music.compositionPlan.create({ prompt: "a waltz, no drums", musicLengthMs: 3000 });
outcome.sections = plan.sections.map((section) => section.durationMs);
outcome.composed = await size(await client.music.compose({ compositionPlan: plan, outputFormat: "pcm_24000" }));
const detailed = await client.music.composeDetailed({ prompt: "a waltz", musicLengthMs: 3000, outputFormat: "pcm_24000" });
outcome.detailed = [detailed.json.compositionPlan.sections.length, detailed.audio.length];
try {
  await client.voices.get("unknown");
} catch (error) {
  outcome.unknown = [error.statusCode, error.body.detail.status];
}
console.log(JSON.stringify(outcome));
"""
WITH_OPENAI = """\
import OpenAI from "openai";
import { experimental_generateSpeech as generateSpeech } from "ai";
import { createOpenAI } from "@ai-sdk/openai";
const baseURL = process.argv[2] + "/v1";
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const outcome = {};
for (const response_format of ["mp3", "opus", "aac", "flac", "wav", "pcm"]) {
  const answer = await client.audio.speech.create({ model: "tts-1", voice: "alloy", input: "Hello.", response_format });
  outcome[response_format] = (await answer.arrayBuffer()).byteLength;
}
outcome.models = (await client.models.list()).data.map((model) => model.id).sort();
const body = { model: "tts-1", voice: "alloy", input: "Hello.", response_format: "pcm", stream_format: "sse" };
const events = await client.post("/audio/speech", { body, stream: true });
outcome.events = [];
for await (const event of events) outcome.events.push(event.type ?? Object.keys(event));
outcome.events = [...new Set(outcome.events)];
try {
  await client.audio.speech.create({ model: "unknown", voice: "alloy", input: "x" });
} catch (error) {
  outcome.unknown = [error.constructor.name, error.status, error.code];
}
const openai = createOpenAI({ baseURL, apiKey: "none" });
const spoken = await generateSpeech({ model: openai.speech("tts-1"), text: "Hello there.", voice: "alloy", outputFormat: "wav" });
outcome.ai = [spoken.audio.uint8Array.length, spoken.audio.mediaType];
const abort = new AbortController();
const long = await client.audio.speech.create(
  { model: "tone", voice: "", input: "x", response_format: "pcm", params: { seconds: 600, block_ms: 50, compute_ms: 50, device: "own" } },
  { signal: abort.signal },
);
outcome.job = long.headers.get("antiphon-job");
abort.abort();
console.log(JSON.stringify(outcome));
"""


def results(node: Path, program: str, url: str) -> dict[str, Any]:
    """The last line that the program printed."""
    (node / "program.mjs").write_text(program)
    return dict(json.loads(ran(["node", "program.mjs", url], node, 240).strip().splitlines()[-1]))


def test_elevenlabs_js_does_all_that_it_has_for_speech_and_music(stack: Stack, tmp_path: Path) -> None:
    node = node_with(tmp_path / "node", "@elevenlabs/elevenlabs-js@2.73.0")
    found = results(node, WITH_ELEVENLABS, stack.url)
    for name, least in (("convert", 20_000), ("stream", 4_000), ("dialogue", 40_000), ("composed", 144_000)):
        assert found.pop(name) >= least, name
    sections, num_bytes = found.pop("detailed")
    assert (sections, num_bytes >= 144_000) == (1, True)
    assert found == {
        "characters": "Hello there.",
        "models": ["music", "speech", "tone"],
        "quota": 2_147_483_647,
        "workspace": "public",
        "speed": 1,
        "voiceSpeed": 1,
        "history": 0,
        "tuning": False,
        "searched": 5,
        "sections": [3000],
        "unknown": [404, "voice_not_found"],
    }


async def test_openai_and_the_ai_sdk_speak_and_an_abort_cancels(
    stack: Stack, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    node = await asyncio.to_thread(
        node_with, tmp_path / "node", "openai@6.49.0", "ai@6.0.326", "@ai-sdk/openai@3.0.141"
    )
    found = await asyncio.to_thread(results, node, WITH_OPENAI, stack.url)
    for codec in ("mp3", "opus", "aac", "flac", "wav", "pcm"):
        assert found[codec] > 2_000, codec
    assert found["models"] == ["music", "speech", "tone"]
    assert found["events"] == ["speech.audio.delta", "speech.audio.done"]
    assert found["unknown"] == ["NotFoundError", 404, "unknown_model"]
    assert found["ai"][0] > 20_000
    assert found["ai"][1] == "audio/wav"
    await until_state(http, found["job"], "cancelled", within_s=30)


async def test_a_version_that_wraps_named_events_gets_none(stack: Stack, tmp_path: Path) -> None:
    node = await asyncio.to_thread(node_with, tmp_path / "node", "openai@4.104.0")
    program = """\
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "none", maxRetries: 0 });
const body = { model: "tts-1", voice: "alloy", input: "Hello.", response_format: "pcm", stream_format: "sse" };
const kinds = new Set();
for await (const event of await client.post("/audio/speech", { body, stream: true })) kinds.add(event.type);
console.log(JSON.stringify({ kinds: [...kinds] }));
"""
    found = await asyncio.to_thread(results, node, program, stack.url)
    assert found["kinds"] == ["speech.audio.delta", "speech.audio.done"]
