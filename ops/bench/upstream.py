"""`antiphon bench upstream`: the time that an Antiphon in front of a second one adds to the first sound.

Both stacks are idle but for one request at a time, which goes to the far one itself and through the near one in turn.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from ops.bench import tone
from ops.bench.own_stack import own_stack
from ops.errors import OpsError

#: Requests of each kind in a round, and those before them that are not counted.
_REQUESTS: Final = 100
_WARM: Final = 10
_SECONDS: Final = 0.5
_REQUEST_S: Final = 30.0
_MODEL: Final = "far"
_TABLE: Final = """
[engines.upstream.far]
url = "{url}"
model = "tone"
response_format = "pcm"
fields = {{ params = {{ seconds = 0.5 }} }}
health = "/readyz"
"""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One round: medians, in milliseconds from the request to the first audio."""

    round: int
    direct_ms: float
    through_ms: float
    #: Of the differences between two requests in turn.
    added_ms: float


def run(rounds: int) -> list[Row]:
    """Measure. Raises OpsError if a stack does not start, or a response is not the signal."""
    with _stacks() as (near, far):
        return asyncio.run(_measure(near, far, rounds))


def report(rows: list[Row], *, as_json: bool) -> str:
    """The rows as lines of text, or as JSON."""
    if as_json:
        return json.dumps([msgspec.to_builtins(row) for row in rows])
    lines = [f"{'round':>5} {'direct p50':>11} {'through p50':>12} {'added p50':>10}"]
    lines += [f"{r.round:>5} {r.direct_ms:>8.2f} ms {r.through_ms:>9.2f} ms {r.added_ms:>7.2f} ms" for r in rows]
    return "\n".join(lines)


@contextmanager
def _stacks() -> Iterator[tuple[str, str]]:
    """URLs of a near stack and of its upstream."""
    with tempfile.TemporaryDirectory(prefix="antiphon-bench-") as folder:
        near_folder, far_folder = Path(folder) / "near", Path(folder) / "far"
        near_folder.mkdir()
        far_folder.mkdir()
        with own_stack(far_folder, ("--models", "tone")) as far:
            config = near_folder / "antiphon.toml"
            config.write_text(_TABLE.format(url=far.http))
            with own_stack(near_folder, ("--models", "upstream", "--config", str(config))) as near:
                yield near.http, far.http


async def _measure(near: str, far: str, rounds: int) -> list[Row]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(_REQUEST_S)) as session:
        rows = []
        for number in range(1, rounds + 1):
            pairs = []
            for request in range(_WARM + _REQUESTS):
                text = f"round {number}, request {request}"
                # Equal requests would be answered from the first one's log.
                direct = await _first_ms(session, far, "tone", f"direct {text}")
                through = await _first_ms(session, near, _MODEL, f"through {text}")
                pairs.append((direct, through))
            counted = pairs[_WARM:]
            rows.append(
                Row(
                    round=number,
                    direct_ms=round(statistics.median(direct for direct, _ in counted), 3),
                    through_ms=round(statistics.median(through for _, through in counted), 3),
                    added_ms=round(statistics.median(through - direct for direct, through in counted), 3),
                )
            )
        return rows


async def _first_ms(session: aiohttp.ClientSession, url: str, model: str, text: str) -> float:
    """Milliseconds until the first audio of a request whose audio is then read to its end and compared."""
    body: dict[str, Any] = {"model": model, "input": text, "response_format": "pcm"}
    if model != _MODEL:
        body["params"] = {"seconds": _SECONDS}
    began = time.perf_counter()
    async with session.post(f"{url}/v1/audio/speech", json=body) as answer:
        if answer.status != 200:
            raise OpsError(f"{url}: {answer.status}: {(await answer.text())[:500]}")
        audio = await answer.content.readany()
        first_ms = (time.perf_counter() - began) * 1000
        audio += await answer.content.read()
    if len(audio) != 2 * int(_SECONDS * tone.RATE_HZ) or not tone.is_right(audio, 0):
        raise OpsError(f"{url}: the audio of {model} is not the signal")
    return first_ms
