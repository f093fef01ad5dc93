"""`antiphon bench quality`: how many words of a voice a free recogniser understands.

Sentences are spoken by a stack of its own, joined to recordings of 30 s, as long as the recogniser listens at once, and
each error is counted for the sentence that it is in.
"""

import asyncio
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from ops.bench import scoring
from ops.bench.judge import RATE_HZ, Judge
from ops.bench.own_stack import own_stack
from ops.errors import OpsError

SENTENCES: Final = (
    "The harbor was quiet when the first boat came in this morning.",
    "Please send the invoice to our office in Chicago before Friday.",
    "She bought three apples, two pears and a loaf of bread for twelve dollars.",
    "Doctor Miller will see you at nine thirty on the second floor.",
    "Nobody knew why the old clock in the tower had stopped.",
    "My brother plays the violin, and my sister sings in a choir.",
    "The train to Boston leaves from platform seven in twenty minutes.",
    "Scientists found water under the ice of a distant moon.",
    "If it rains tomorrow, we will stay at home and watch a movie.",
    "The museum opened in 1984 and has forty rooms.",
    "Could you turn down the music, please? The baby is asleep.",
    "He wrote a long letter to his grandmother every Sunday.",
    "The recipe needs two cups of flour and a pinch of salt.",
    "A gentle wind moved the leaves of the tall trees.",
    "Our team won the game by fifteen points last night.",
    "The library closes at six, but the garden stays open.",
    "They painted the kitchen yellow and the bedroom blue.",
    "You can change your password on the settings page.",
    "The doctor said that walking every day is good for the heart.",
    "Thank you for calling, and have a wonderful afternoon.",
)
_WINDOW_S: Final = 29.0
#: Silence between two sentences of a recording.
_GAP: Final = bytes(2 * RATE_HZ // 2)
_REQUEST_S: Final = 120.0


class Sentence(msgspec.Struct, frozen=True, kw_only=True):
    """How one sentence was understood."""

    text: str
    words: int
    errors: int


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How one voice was understood."""

    model: str
    voice: str
    #: Errors for each word of all sentences, and of the worst sentence.
    error_rate: float
    worst: float
    sentences: list[Sentence]


def run(voices: Sequence[str], folder: str, judge: Judge, seed: int = 1) -> list[Result]:
    """Record and judge voices. Raises OpsError: the stack did not start, or has no such voice."""
    return [judged(model, voice, spoken, judge) for (model, voice), spoken in record(voices, folder, seed).items()]


def record(voices: Sequence[str], folder: str, seed: int = 1) -> dict[tuple[str, str], list[bytes]]:
    """Recordings of `SENTENCES` by model and voice, as `judged` takes them.

    The voices are those of `speech` and, if `folder` is not "", of the engine `piper` with that folder. Without
    `voices`, all that the folder has, and `en-us`. Raises OpsError.
    """
    with voice_stack(folder) as url:
        return asyncio.run(_speak(url, voices, seed))


def judged(model: str, voice: str, recordings: Sequence[bytes], judge: Judge) -> Result:
    """Judge a voice by its recordings of `SENTENCES`, s16le at the judge's rate."""
    counts: list[int] = []
    for first, last in windows([len(pcm) / 2 / RATE_HZ for pcm in recordings]):
        recognised = judge.recognise(_GAP.join(recordings[first:last]) + _GAP)
        counts += scoring.errors(SENTENCES[first:last], recognised)
    sentences = [
        Sentence(text=text, words=len(scoring.words(text)), errors=count)
        for text, count in zip(SENTENCES, counts, strict=True)
    ]
    return Result(
        model=model,
        voice=voice,
        error_rate=round(sum(counts) / sum(each.words for each in sentences), 4),
        worst=round(max(each.errors / each.words for each in sentences), 4),
        sentences=sentences,
    )


def windows(seconds: Sequence[float]) -> Iterator[tuple[int, int]]:
    """(First, behind the last) of the recordings that fit a window together."""
    first, total_s = 0, 0.0
    for index, length_s in enumerate(seconds):
        length_s += len(_GAP) / 2 / RATE_HZ  # noqa: PLW2901
        if total_s + length_s > _WINDOW_S and index > first:
            yield first, index
            first, total_s = index, 0.0
        total_s += length_s
    yield first, len(seconds)


def report(results: Sequence[Result], *, as_json: bool) -> str:
    """A table, a voice a line, with its worst sentence; or JSON."""
    if as_json:
        return json.dumps([msgspec.to_builtins(result) for result in results], indent=2)
    width = max(len(result.voice) for result in results)
    lines = [f"{'voice':{width}}  word errors  worst  sentence"]
    for result in results:
        worst = max(result.sentences, key=lambda each: each.errors / each.words)
        lines.append(f"{result.voice:{width}}  {result.error_rate:11.3f}  {result.worst:5.2f}  {worst.text}")
    return "\n".join(lines)


@contextmanager
def voice_stack(folder: str) -> Iterator[str]:
    """The URL of a stack of `speech` and, with a folder of voices, `piper`."""
    models = "speech,piper" if folder else "speech"
    with tempfile.TemporaryDirectory(prefix="antiphon-quality-") as place:
        config = Path(place) / "antiphon.toml"
        config.write_text(f"[engines.piper]\nvoices = {json.dumps(str(Path(folder).resolve()))}\n" if folder else "")
        with own_stack(Path(place), ("--models", models, "--config", str(config))) as stack:
            yield stack.http


async def _speak(url: str, voices: Sequence[str], seed: int) -> dict[tuple[str, str], list[bytes]]:
    """Recordings of all sentences, by model and voice."""
    timeout = aiohttp.ClientTimeout(total=_REQUEST_S)
    async with aiohttp.ClientSession(timeout=timeout, raise_for_status=failed) as session:
        recordings: dict[tuple[str, str], list[bytes]] = {}
        for model, voice in await chosen(session, url, voices):
            spoken = recordings.setdefault((model, voice), [])
            for text in SENTENCES:
                body = {**request(model, voice, text, seed), "sample_rate": RATE_HZ}
                async with session.post(f"{url}/v1/audio/speech", json=body) as response:
                    spoken.append(await response.read())
    return recordings


async def chosen(session: aiohttp.ClientSession, url: str, voices: Sequence[str]) -> list[tuple[str, str]]:
    """(Model, voice) of each of `voices`; without any, of all that `piper` offers, and `en-us`. Raises OpsError."""
    async with session.get(f"{url}/v1/voices") as answer:
        offered: list[dict[str, Any]] = (await answer.json())["voices"]
    models = {voice["id"]: voice["model"] for voice in offered}
    neural = [voice for voice, model in models.items() if model == "piper" and "+" not in voice]
    for voice in voices:
        if voice not in models:
            raise OpsError(f"no voice {voice!r}; `--voices FOLDER` adds the voices of a folder")
    return [(models[voice], voice) for voice in voices or [*neural, "en-us"]]


def request(model: str, voice: str, text: str, seed: int) -> dict[str, Any]:
    """The body of a request for PCM."""
    return {"model": model, "voice": voice, "input": text, "response_format": "pcm", "seed": seed}


async def failed(response: aiohttp.ClientResponse) -> None:
    if response.status >= 400:
        raise OpsError(f"{response.url.path}: HTTP {response.status}: {(await response.text())[:300]}")
