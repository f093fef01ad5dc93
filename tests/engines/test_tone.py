"""The tone engine: every byte can be recomputed, and busy times and faults are those of the params."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpuworker.conformance.driving import checked, next_block, run, run_together, schema_errors
from gpuworker.engine import Block, EngineJob, MemoryPolicy, OutOfMemory, Pause, Rejected
from gpuworker.engines.tone import Tone, ToneOptions
from tests.support.clips import samples_of, tone_clip

ROOT = Path(__file__).parents[2]


@pytest.fixture
def slept_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The engine's busy times, in place of the waiting."""
    slept: list[float] = []
    monkeypatch.setattr("gpuworker.engines.tone.time.sleep", slept.append)
    return slept


@pytest.fixture
def tone() -> Tone:
    engine = Tone(ToneOptions(allow_faults=True))
    engine.load("cpu", MemoryPolicy())
    return engine


def job(job_id: str = "a", attempt: int = 1, start_frame: int = 0, **params: Any) -> EngineJob:
    return EngineJob(id=job_id, input="x", params=params, attempt=attempt, start_frame=start_frame)


def signal(first_frame: int, frames: int) -> bytes:
    """Sample by sample, as `docs/engines.md` defines it."""
    return b"".join(
        (((i * 40503) & 0xFFFF) - 32768).to_bytes(2, "little", signed=True)
        for i in range(first_frame, first_frame + frames)
    )


def s16(pcm: np.ndarray) -> bytes:
    return np.rint(pcm * 32768).astype("<i2").tobytes()


@pytest.mark.parametrize("block_ms", [1, 37, 100, 10_000])
def test_every_sample_is_the_contracts(tone: Tone, block_ms: int) -> None:
    output = run(tone, job(seconds=3.21, block_ms=block_ms))
    assert s16(output.pcm) == signal(0, 77_040)
    assert {len(block.pcm) for block in output.blocks[:-1]} <= {block_ms * 24}


def test_the_end_of_ten_hours_is_right_too(tone: Tone) -> None:
    start_frame = 36_000 * 24_000 - 5_000
    output = run(tone, job(seconds=36_000, block_ms=10_000, start_frame=start_frame))
    assert s16(output.from_frame(start_frame)) == signal(start_frame, 5_000)


def test_two_seconds_in_blocks_of_100_ms_by_default(tone: Tone) -> None:
    output = run(tone, job())
    assert [len(block.pcm) for block in output.blocks] == [2_400] * 20


def test_resuming_begins_with_the_block_that_holds_the_frame(tone: Tone) -> None:
    events = tone.generate([checked(tone, job(start_frame=7_201, block_ms=100))])
    assert next_block(events).first_frame == 7_200


def test_a_shared_device_is_busy_for_each_block(tone: Tone, slept_s: list[float]) -> None:
    events = list(tone.generate([checked(tone, job(seconds=0.3, compute_ms=7))]))
    assert slept_s == [0.007] * 3
    assert not any(isinstance(event, Pause) for _, event in events)


def test_a_device_of_its_own_pauses_before_each_block(tone: Tone, slept_s: list[float]) -> None:
    events = [event for _, event in tone.generate([checked(tone, job(seconds=0.2, compute_ms=7, device="own"))])]
    assert [event for event in events if isinstance(event, Pause)] == [Pause(0.007)] * 2
    assert [type(event) for event in events[:4]] == [Pause, Block, Pause, Block]
    assert slept_s == []


def test_no_compute_means_no_sleep_and_no_pause(tone: Tone, slept_s: list[float]) -> None:
    events = [event for _, event in tone.generate([checked(tone, job(device="own"))])]
    assert not any(isinstance(event, Pause) for event in events)
    run(tone, job())
    assert slept_s == []


def test_each_further_job_of_a_batch_costs_batch_ms(tone: Tone, slept_s: list[float]) -> None:
    params: dict[str, Any] = {"compute_ms": 10, "batch_ms": 2, "max_batch": 8}
    run_together(tone, [job("a", seconds=0.2, **params), job("b", seconds=0.1, **params), job("c", **params)])
    assert slept_s[:3] == [0.014, 0.012, 0.010]
    assert len(slept_s) == 20


def test_more_jobs_than_max_batch_take_turns(tone: Tone, slept_s: list[float]) -> None:
    params: dict[str, Any] = {"compute_ms": 10, "batch_ms": 1, "max_batch": 2, "seconds": 0.1}
    output = run_together(tone, [job(name, **params) for name in "abc"])
    assert slept_s == [0.011, 0.010]
    assert all(one.done for one in output)


def test_only_jobs_of_equal_cost_on_a_shared_device_may_batch(tone: Tone) -> None:
    def key(**params: Any) -> object:
        return tone.batch_key(checked(tone, job(**params)))

    assert key() is None
    assert key(max_batch=4, device="own") is None
    assert key(max_batch=4) == key(max_batch=4, seconds=9)
    assert key(max_batch=4) != key(max_batch=4, compute_ms=1)
    assert key(max_batch=4) != key(max_batch=5)


def test_the_estimate_counts_blocks(tone: Tone) -> None:
    estimate = tone.estimate(checked(tone, job(seconds=1.05, compute_ms=10, batch_ms=5)), batch=3)
    assert estimate.cost_s == pytest.approx(11 * 0.020)
    assert estimate.seconds == 1.05


@pytest.mark.parametrize("params", [{"fault": {"kind": "raise"}}, {"gate": {"path": "/gate"}}])
def test_faults_are_refused_unless_allowed(params: dict[str, Any]) -> None:
    engine, wanted = Tone(), job(**params)
    assert schema_errors(engine, wanted)
    with pytest.raises(Rejected, match="--allow-faults") as refusal:
        engine.validate(wanted)
    assert refusal.value.path == f"params.{next(iter(params))}"


@pytest.mark.parametrize(
    "params",
    [
        {"seconds": 0},
        {"seconds": 36_001},
        {"block_ms": 0},
        {"block_ms": 1.5},
        {"block_ms": 10_001},
        {"compute_ms": -1},
        {"device": "gpu"},
        {"max_batch": 65},
        {"fault": {"kind": "flood"}},
        {"fault": {"kind": "raise", "times": 0}},
        {"gate": {"path": "relative"}},
    ],
)
def test_the_schema_refuses(tone: Tone, params: dict[str, Any]) -> None:
    assert schema_errors(tone, job(**params))


def blocks_before(tone: Tone, wanted: EngineJob, error: type[Exception]) -> int:
    kinds: list[type] = []
    with pytest.raises(error, match="attempt"):
        kinds.extend(type(event) for _, event in tone.generate([checked(tone, wanted)]))
    return kinds.count(Block)


@pytest.mark.parametrize(("kind", "error"), [("raise", RuntimeError), ("oom", OutOfMemory)])
def test_a_fault_strikes_at_its_block_in_its_attempts(tone: Tone, kind: str, error: type[Exception]) -> None:
    fault = {"kind": kind, "at_block": 3, "times": 2}
    assert blocks_before(tone, job(fault=fault), error) == 3
    assert blocks_before(tone, job(fault=fault, attempt=2, start_frame=2_400), error) == 2
    assert s16(run(tone, job(fault=fault, attempt=3)).pcm) == signal(0, 48_000)


def test_a_resumed_job_that_is_past_the_fault_is_spared(tone: Tone) -> None:
    fault = {"kind": "raise", "at_block": 3, "times": 9}
    assert run(tone, job(fault=fault, attempt=2, start_frame=4 * 2_400)).done


def test_memory_runs_out_only_for_so_many_jobs_at_once(tone: Tone) -> None:
    wanted = [job(name, max_batch=4, fault={"kind": "oom", "min_batch": 2}) for name in "ab"]
    with pytest.raises(OutOfMemory):
        run_together(tone, wanted)
    assert run(tone, wanted[0]).done


def test_a_nan_is_in_one_block_and_the_signal_stays_clean(tone: Tone) -> None:
    blocks = [
        event
        for _, event in tone.generate([checked(tone, job(fault={"kind": "nan", "at_block": 1}))])
        if isinstance(event, Block)
    ]
    assert [bool(np.isnan(block.pcm).any()) for block in blocks[:3]] == [False, True, False]
    assert s16(run(tone, job()).pcm) == signal(0, 48_000)


def test_a_slow_block_takes_ten_times_as_long_and_a_second_at_least(tone: Tone, slept_s: list[float]) -> None:
    run(tone, job(seconds=0.2, compute_ms=300, fault={"kind": "slow", "at_block": 1}))
    run(tone, job(seconds=0.1, fault={"kind": "slow"}))
    assert slept_s == [0.3, 3.0, 1.0]


def test_a_hanging_block_sleeps_without_end(tone: Tone, monkeypatch: pytest.MonkeyPatch) -> None:
    class EnoughSeen(Exception):
        pass

    sleeps: list[float] = []

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        if len(sleeps) == 3:
            raise EnoughSeen

    monkeypatch.setattr("gpuworker.engines.tone.time.sleep", sleep)
    with pytest.raises(EnoughSeen):
        run(tone, job(fault={"kind": "hang"}))
    assert min(sleeps) >= 60


def test_an_exit_ends_the_process_at_once() -> None:
    program = (
        "from gpuworker.engine import EngineJob\n"
        "from gpuworker.engines.tone import Tone, ToneOptions\n"
        "tone = Tone(ToneOptions(allow_faults=True))\n"
        "job = EngineJob(id='a', input='x', params={'fault': {'kind': 'exit', 'at_block': 1}})\n"
        "for _, event in tone.generate([tone.validate(job)]): print(event.first_frame, flush=True)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert (ended.returncode, ended.stdout) == (3, "0\n")


def test_a_gated_block_waits_for_its_file(tone: Tone, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    events = tone.generate([checked(tone, job(seconds=0.3, gate={"path": str(gate), "before_block": 1}))])
    assert next_block(events).first_frame == 0
    assert [next(events) for _ in range(3)] == [(0, Pause(0.01))] * 3
    gate.touch()
    assert next_block(events).first_frame == 2_400
    assert next_block(events).first_frame == 4_800


def test_a_block_costs_next_to_nothing(tone: Tone) -> None:
    events = tone.generate([checked(tone, job(seconds=600, block_ms=20))])
    started = time.thread_time()
    blocks = sum(isinstance(event, Block) for _, event in events)
    per_block_s = (time.thread_time() - started) / blocks
    assert blocks == 30_000
    assert per_block_s < 50e-6


def test_a_clip_is_played_again_and_again_from_any_frame(tone: Tone, tmp_path: Path) -> None:
    clip = tmp_path / "clip"
    clip.write_bytes(tone_clip(0.25))
    spoken = replace(job(seconds=1.0), inputs={"reference": str(clip)})
    whole = run(tone, spoken).pcm
    assert s16(whole) == samples_of(clip.read_bytes()) * 4
    assert s16(run(tone, replace(spoken, start_frame=12_000)).pcm) == s16(whole[12_000:])


def test_a_clip_that_is_none_fails_before_it_is_in_a_batch(tone: Tone, tmp_path: Path) -> None:
    (tmp_path / "clip").write_bytes(b"RIFF")
    with pytest.raises(Rejected, match=r"inputs\.reference: is no WAV"):
        tone.validate(replace(job(), inputs={"reference": str(tmp_path / "clip")}))
