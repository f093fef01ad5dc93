"""`antiphon bench isolation`: the first audio of one tenant while another one floods a pool that they share.

The control is the same tenant at a second, unrelated stack on the same machine, during the same flood: it costs the
machine as much, and only the sharing differs. So a ratio of 1 means that the stack's pools protect the tenant entirely.
Requests to the two stacks alternate, so that whatever else the machine does strikes both alike.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import msgspec

from bus.access.keys import Keys, Limits
from bus.jobs.client import open_bus
from bus.settings import BusSettings
from ops.bench import tone
from ops.bench.own_stack import line_within, own_process, own_stack
from ops.errors import OpsError, UsageRefused
from ops.flood.pools import POOLS
from ops.flood.target import Target
from ops.local.system import ourselves

#: Settings of both stacks: streams small enough that a flood fills them within a measurement.
_ENVIRON: Final = {
    "ANTIPHON_JOBS_MAX_BYTES": str(8 << 20),
    "ANTIPHON_REPLIES_MAX_BYTES": str(512 << 20),
    "ANTIPHON_WEBHOOK_PRIVATE": "true",
}
#: A flood has this long to fill its pool before the other tenant is measured.
_FILL_S: Final = 6.0
#: Between two requests of the other tenant, and the length of the audio of each.
_PAUSE_S: Final = 0.02
_SECONDS: Final = 0.5
#: Recordings that the other tenant makes before the flood.
_KEPT: Final = 5
#: For a flood to start, to stop, and for its jobs to be cancelled.
_STOP_S: Final = 20.0
#: For one request; after it the request has failed.
_REQUEST_S: Final = 60.0


class Stack(msgspec.Struct, frozen=True):
    """A running stack, and one key each of the two tenants."""

    url: str
    nats: str
    flood_key: str
    victim_key: str


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The other tenant's requests to one stack during a flood."""

    #: Seconds to the first audio of each good request, ascending.
    first_s: list[float]
    #: Requests that failed or brought wrong samples.
    failed: int
    #: Good requests whose player ran dry: the last audio came later after the first than the audio lasts.
    late: int
    #: Recordings made before the flood that could not be read after it.
    purged: int

    @property
    def p95_ms(self) -> float:
        """Milliseconds to the first audio, 95th percentile; infinite if no request was good."""
        return 1000 * self.first_s[int(0.95 * len(self.first_s))] if self.first_s else float("inf")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One pool in one round."""

    round: int
    pool: str
    #: At the stack that the flood did not strike.
    control: Measured
    #: At the stack that it struck.
    flooded: Measured
    #: Requests of the flood that were served, and refused.
    taken: int
    refused: int

    @property
    def ratio(self) -> float:
        """p95 under the flood by the control's."""
        return self.flooded.p95_ms / self.control.p95_ms


@contextmanager
def _stack(folder: Path) -> Iterator[Stack]:
    """A stack of two workers: one makes `tone` for both tenants, the other is slow and has one slot."""
    folder.mkdir()
    with own_stack(folder, ("--models", "tone", "--slots", "64"), _ENVIRON) as found:
        slow = ("worker", "--nats", found.nats, "--id", "slow", "--models", "music", "--slots", "1")
        with own_process([*ourselves(), *slow], folder / "slow.log", _ENVIRON):
            keys = asyncio.run(_make_keys(found.nats))
            yield Stack(found.http, found.nats, *keys)


async def _make_keys(nats: str) -> tuple[str, str]:
    async with open_bus(BusSettings(nats=nats), "bench", declare=False) as bus:
        keys = Keys(bus)
        return (await keys.create("flood", Limits()))[1], (await keys.create("victim", Limits()))[1]


def chosen(names: str) -> tuple[str, ...]:
    """The pools that a comma-separated list names; all for an empty one. Raises UsageRefused for an unknown name."""
    pools = tuple(name for name in names.split(",") if name) or tuple(POOLS)
    if unknown := sorted(set(pools) - set(POOLS)):
        raise UsageRefused(f"--pools: {', '.join(unknown)} is not one of {', '.join(POOLS)}")
    return pools


def run(pools: Sequence[str], rounds: int, seconds: float) -> list[Row]:
    """Flood each of `pools` in turn, `rounds` times, and measure for `seconds` each."""
    rows = []
    for number in range(rounds):
        with tempfile.TemporaryDirectory(prefix="antiphon-isolation-") as folder:
            for name in pools:
                # Fresh stacks for each pool: what one flood leaves behind must not count for the next.
                with _stack(Path(folder) / f"{name}-a") as flooded, _stack(Path(folder) / f"{name}-b") as control:
                    rows.append(asyncio.run(_row(number, name, flooded, control, seconds)))
                    sys.stderr.write(f"{number} {name}: {_summary(rows[-1])}\n")
    return rows


async def _row(number: int, name: str, flooded: Stack, control: Stack, seconds: float) -> Row:
    timeout = aiohttp.ClientTimeout(total=_REQUEST_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        victims = [_Victim(Target(session, stack.url, stack.victim_key)) for stack in (flooded, control)]
        for victim in victims:
            await victim.prepare()
        with tempfile.TemporaryDirectory() as folder, _flood(name, flooded, Path(folder)) as process:
            await asyncio.sleep(_FILL_S)
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                for victim in victims:
                    await victim.request()
                    await asyncio.sleep(_PAUSE_S)
            answers = await asyncio.to_thread(_stopped, process)
        struck, spared = [await victim.measured() for victim in victims]
        await Target(session, flooded.url, flooded.flood_key).cancel_jobs(_STOP_S)
    taken = sum(count for status, count in answers.items() if status.startswith("2") or status == "connected")
    refused = sum(answers.values()) - taken
    return Row(round=number, pool=name, control=spared, flooded=struck, taken=taken, refused=refused)


@contextmanager
def _flood(name: str, stack: Stack, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    environ = {"ANTIPHON_URL": stack.url, "ANTIPHON_NATS": stack.nats, "ANTIPHON_API_KEY": stack.flood_key}
    with own_process([sys.executable, "-m", "ops.flood", name], folder / "flood.log", environ) as process:
        line_within(process, _STOP_S)
        yield process


def _stopped(process: "subprocess.Popen[str]") -> dict[str, int]:
    """Stop a flood and return its answers by status. Raises OpsError if it had ended by itself, or does not end."""
    process.terminate()
    line = line_within(process, _STOP_S)
    if not line:
        raise OpsError("the flood ended before it was stopped, or did not end then")
    return dict(json.loads(line))


class _Victim:
    """The other tenant at one stack: it has recordings there, and requests audio."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._kept: list[str] = []
        self._first_s: list[float] = []
        self._num_failed = self._num_late = self._num_requests = 0

    async def prepare(self) -> None:
        """Wait until a request succeeds and both models are offered, and make the recordings."""
        target = self._target
        async with asyncio.timeout(_REQUEST_S):
            while True:
                async with target.session.get(f"{target.url}/v1/models", headers=target.headers) as response:
                    models = {card["id"] for card in (await response.json()).get("data", [])}
                if {"tone", "music"} <= models and (await _request(target, "warm")).is_good:
                    break
                await asyncio.sleep(_PAUSE_S)
        self._kept = [await _record(target, number) for number in range(_KEPT)]

    async def request(self) -> None:
        """Send one request, read its audio, and note how that went."""
        self._num_requests += 1
        try:
            found = await _request(self._target, f"measured {self._num_requests}")
        except (aiohttp.ClientError, TimeoutError):
            self._num_failed += 1
            return
        if found.is_good:
            self._first_s.append(found.first_s)
            self._num_late += found.last_s - found.first_s > _SECONDS
        else:
            self._num_failed += 1

    async def measured(self) -> Measured:
        """The notes so far, and how many of the recordings are gone."""
        paths = [f"/v1/jobs/{job}/audio?format=pcm" for job in self._kept]
        purged = sum([await self._target.read(path) != 200 for path in paths])
        return Measured(first_s=sorted(self._first_s), failed=self._num_failed, late=self._num_late, purged=purged)


async def _record(victim: Target, number: int) -> str:
    """Make a recording of the tenant and return its id."""
    body = {"model": "tone", "input": f"kept {number}", "params": {"seconds": 10.0}}
    job = str((await victim.post("/v1/jobs", body))["id"])
    await victim.read(f"/v1/jobs/{job}/audio?format=pcm")
    return job


class _Answer(NamedTuple):
    """Seconds from the request to the first and the last audio, and whether all samples were right."""

    first_s: float
    last_s: float
    is_good: bool


async def _request(victim: Target, text: str) -> _Answer:
    params: dict[str, Any] = {"seconds": _SECONDS, "device": "own"}
    body = {"model": "tone", "input": text, "response_format": "pcm", "params": params}
    first = last = 0.0
    size, good, began = 0, True, time.perf_counter()
    async with victim.session.post(f"{victim.url}/v1/audio/speech", json=body, headers=victim.headers) as response:
        good = response.status == 200
        async for data in response.content.iter_any():
            last = time.perf_counter() - began
            first = first or last
            good = good and tone.is_right(data, size)
            size += len(data)
    return _Answer(first, last, good and size == 2 * round(_SECONDS * tone.RATE_HZ))


def _summary(row: Row) -> str:
    return (
        f"p95 {row.flooded.p95_ms:.0f} ms of {len(row.flooded.first_s)}, "
        f"control {row.control.p95_ms:.0f} ms of {len(row.control.first_s)} (x{row.ratio:.2f}), "
        f"failed {row.flooded.failed}, late {row.flooded.late}, purged {row.flooded.purged}; "
        f"flood: {row.taken} taken, {row.refused} refused"
    )


def report(rows: list[Row], *, as_json: bool) -> str:
    """The rows as JSON, or a Markdown table in the form of docs/benchmarks.md: of p95 and ratio the median over the
    rounds, of the ratio the least and the largest too, of everything else sums.
    """
    if as_json:
        return json.dumps(msgspec.to_builtins(rows))
    head = "| pool | first audio p95 ms, control | under the flood | ratio (least to largest) | requests "
    lines = [head + "| failed | late | purged | flood taken / refused |"]
    lines.append("| --- | --: | --: | --: | --: | --: | --: | --: | --: |")
    for pool in dict.fromkeys(row.pool for row in rows):
        some = [row for row in rows if row.pool == pool]
        control = statistics.median(row.control.p95_ms for row in some)
        flooded = statistics.median(row.flooded.p95_ms for row in some)
        ratios = sorted(row.ratio for row in some)
        struck = [row.flooded for row in some]
        lines.append(
            f"| {pool} | {control:.1f} | {flooded:.1f} "
            f"| x{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) "
            f"| {sum(len(each.first_s) for each in struck)} | {sum(each.failed for each in struck)} "
            f"| {sum(each.late for each in struck)} | {sum(each.purged for each in struck)} "
            f"| {sum(row.taken for row in some)} / {sum(row.refused for row in some)} |"
        )
    return "\n".join(lines)
