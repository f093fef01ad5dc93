"""`antiphon bench voice`: how soon voices sound over HTTP, and how fast they are made.

The voices take turns, sentence by sentence, on one stack: whatever else the machine does, it does to all of them.
"""

import asyncio
import json
import os
import statistics
import time
from collections.abc import Sequence
from typing import Final

import aiohttp
import msgspec

from ops.bench.quality import SENTENCES, chosen, failed, request, voice_stack

_RATE_HEADER: Final = "Antiphon-Media"
#: Of the voices' PCM, which is mono.
_SAMPLE_BYTES: Final = 2
_REQUEST_S: Final = 120.0


class Spoken(msgspec.Struct, frozen=True):
    """One sentence, in seconds: until its first sound, until its last, and the audio."""

    first_s: float
    total_s: float
    audio_s: float


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """How soon and how fast one voice speaks; milliseconds from the request to the first byte of sound."""

    model: str
    voice: str
    requests: int
    first_p50_ms: float
    first_p90_ms: float
    first_max_ms: float
    #: Seconds of audio made in a second.
    pace: float


class Report(msgspec.Struct, frozen=True):
    """All voices, and the load of the machine: processes that ran or waited, over the last minute, and its cores."""

    voices: list[Speed]
    load: float
    cores: int


def run(voices: Sequence[str], folder: str, rounds: int) -> Report:
    """Speak all sentences `rounds` times with each voice, one request at a time, each with a seed of its own.

    `voices` and `folder` as for `quality.record`. Raises OpsError.
    """
    with voice_stack(folder) as url:
        measured = asyncio.run(_speak(url, voices, rounds))
    return Report(measured, round(os.getloadavg()[0], 1), os.cpu_count() or 1)


def report(found: Report, *, as_json: bool) -> str:
    """A table, a voice a line; or JSON."""
    if as_json:
        return json.dumps(msgspec.to_builtins(found), indent=2)
    width = max(len(each.voice) for each in found.voices)
    lines = [f"{'voice':{width}}  first sound: p50     p90     max   audio made in 1 s"]
    lines += [
        f"{each.voice:{width}}     {each.first_p50_ms:9.0f} ms {each.first_p90_ms:4.0f} ms {each.first_max_ms:4.0f} ms"
        f"   {each.pace:6.1f} s"
        for each in found.voices
    ]
    return "\n".join([*lines, f"load {found.load} on {found.cores} cores"])


async def _speak(url: str, voices: Sequence[str], rounds: int) -> list[Speed]:
    timeout = aiohttp.ClientTimeout(total=_REQUEST_S)
    async with aiohttp.ClientSession(timeout=timeout, raise_for_status=failed) as session:
        found: dict[tuple[str, str], list[Spoken]] = {pair: [] for pair in await chosen(session, url, voices)}
        for seed in range(rounds + 1):
            for text in SENTENCES:
                for (model, voice), spoken in found.items():
                    one = await _one(session, url, request(model, voice, text, seed))
                    if seed:  # the first round warms up
                        spoken.append(one)
    return [speed(*pair, spoken) for pair, spoken in found.items()]


async def _one(session: aiohttp.ClientSession, url: str, body: dict[str, object]) -> Spoken:
    began = time.perf_counter()
    async with session.post(f"{url}/v1/audio/speech", json=body) as response:
        num_bytes, first_at = 0, 0.0
        async for data in response.content.iter_any():
            first_at = first_at or time.perf_counter()
            num_bytes += len(data)
        rate_hz = int(response.headers[_RATE_HEADER].split("rate=")[1].split(";")[0])
    now = time.perf_counter()
    return Spoken(first_at - began, now - began, num_bytes / _SAMPLE_BYTES / rate_hz)


def speed(model: str, voice: str, spoken: Sequence[Spoken]) -> Speed:
    """The figures of a voice from its sentences, one at least."""
    firsts = sorted(1000 * each.first_s for each in spoken)
    return Speed(
        model=model,
        voice=voice,
        requests=len(spoken),
        first_p50_ms=round(statistics.median(firsts), 1),
        first_p90_ms=round(firsts[int(0.9 * len(firsts))], 1),
        first_max_ms=round(firsts[-1], 1),
        pace=round(sum(each.audio_s for each in spoken) / sum(each.total_s for each in spoken), 1),
    )
