"""The figures of a run: verdict, takeover times, leaks, plot."""

import math
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from bus import wire
from ops.chaos.injector import Injection
from ops.chaos.leaks import Snapshot, Usage, leaked
from ops.chaos.ledger import CheckedEntry, ClientRecord, Damage
from ops.chaos.readback import Log
from ops.chaos.report import Report, details, table
from ops.chaos.requests import Request
from ops.chaos.soak import Sample, SoakResult, growth
from ops.chaos.svg import Curve, chart
from ops.chaos.takeover import quantile, takeovers

REQUEST = Request(1, "listen", "tone", "tone", {}, seconds=2.0, compute_s=0.1)
#: Unix time less monotonic time, in these tests.
OFFSET = 1000.0


def started(worker: str, frame: int, seq: int) -> CheckedEntry:
    first = wire.Started(
        media="audio/L16;rate=24000;channels=1", worker=worker, attempt=seq, model="tone", version="v1"
    )
    return CheckedEntry(seq, "block", frame=frame, frames=2400, started=first)


def killed_stream(resumed_at: float = 5.4) -> tuple[ClientRecord, dict[str, Log]]:
    """A stream that w1 began at 1 s and w2 went on with, from frame 2400 on."""
    received = ClientRecord(REQUEST, "j", accepted=True, arrivals=[(1.1, 4800), (resumed_at, 9600)], num_bytes=9600)
    log = Log(wire.Job(input="tone"), [started("w1", 0, 1), started("w2", 2400, 2)], [OFFSET + 1.0, OFFSET + 5.3])
    return received, {"j": log}


KILL = Injection("worker_kill", "w1", at=5.0, until=5.0, free_slots=8)


def test_a_takeover_lasts_from_the_kill_to_the_next_block_received_less_its_compute() -> None:
    received, logs = killed_stream()
    (found,) = takeovers([KILL], [received], logs, OFFSET)
    assert found.silence_s == pytest.approx(0.3)
    assert found.undisturbed


@pytest.mark.parametrize(
    "other",
    [
        Injection("nats_outage", "nats", at=1.0, until=4.5),
        Injection("worker_kill", "w2", at=5.2, until=5.2),
        Injection("worker_freeze", "w3", at=0.0, until=20.0),
    ],
)
def test_a_takeover_with_another_fault_near_is_not_called_undisturbed(other: Injection) -> None:
    received, logs = killed_stream()
    assert [each.undisturbed for each in takeovers([KILL, other], [received], logs, OFFSET) if each.worker == "w1"] == [
        False
    ]


def test_a_takeover_without_a_free_slot_is_not_called_undisturbed() -> None:
    received, logs = killed_stream()
    assert not takeovers([replace(KILL, free_slots=0)], [received], logs, OFFSET)[0].undisturbed
    assert not takeovers([replace(KILL, held=9)], [received], logs, OFFSET)[0].undisturbed


def test_a_stream_on_another_worker_was_not_hit() -> None:
    received, logs = killed_stream()
    assert takeovers([replace(KILL, target="w3")], [received], logs, OFFSET) == []


def test_a_stream_that_had_not_begun_was_not_hit() -> None:
    received, logs = killed_stream()
    assert takeovers([replace(KILL, at=0.5)], [received], logs, OFFSET) == []


def test_quantiles_are_measured_values() -> None:
    assert quantile([3, 1, 2], 0.5) == 2
    assert quantile(list(range(100)), 0.99) == 98
    assert quantile([1, 2, 3], 1.0) == 3
    assert math.isnan(quantile([], 0.5))


GOOD = Report(7, 2.0, requests=10, jobs=10, ends={"done": 10})


def test_a_report_without_damage_is_good() -> None:
    assert GOOD.is_good
    assert details(GOOD) == ""
    assert "| 0 / 0 / 0 |" in table(GOOD)


@pytest.mark.parametrize(
    "harm",
    [
        {"damages": [Damage("lost", "j", "has no end")]},
        {"damages": [Damage("wrong", "j", "a sample")]},
        {"damages": [Damage("doubled", "j", "two ends")]},
        {"slots_leaked": 1},
        {"leaks": ["w1: 90 descriptors, 30 before"]},
        {"crashes": ["w1 exited [1]"]},
        {"not_injected": ["host_kill: no worker had an engine host for 120 s"]},
    ],
)
def test_a_report_of_any_harm_is_not_good(harm: dict[str, object]) -> None:
    report = replace(GOOD, **harm)  # type: ignore[arg-type]
    assert not report.is_good
    assert len(details(report).splitlines()) == 1, "a run that is not good says why"


def test_jobs_are_counted_once_however_much_is_wrong_with_them() -> None:
    report = replace(GOOD, damages=[Damage("lost", "j", "a"), Damage("lost", "j", "b"), Damage("lost", "k", "c")])
    assert report.count("lost") == 2
    assert details(report).splitlines() == ["lost: j: a", "lost: j: b", "lost: k: c"]


REST = Snapshot({"w1": Usage(30, 1 << 26, 2)}, subscriptions=50, connections=6, consumers=9, unacknowledged=0, queued=0)


def test_a_stack_that_is_as_it_was_has_leaked_nothing() -> None:
    assert leaked(REST, REST) == []


@pytest.mark.parametrize("what", ["subscriptions", "connections", "consumers", "unacknowledged", "queued"])
def test_more_of_anything_on_the_server_is_a_leak(what: str) -> None:
    assert what in leaked(REST, replace(REST, **{what: 100}))[0]


def test_more_descriptors_are_a_leak() -> None:
    assert "descriptors" in leaked(REST, replace(REST, processes={"w1": Usage(40, 1 << 26, 2)}))[0]


def test_growth_compares_the_warm_beginning_with_the_end() -> None:
    flat = [Sample(float(t), "w1", 100 if t > 10 else 10, 5) for t in range(100)]
    growing = [Sample(float(t), "w2", 100 + t, 5) for t in range(100)]
    found = growth(flat + growing, 100.0)
    assert found["w1"] == pytest.approx(1.0)
    assert found["w2"] > 1.4


def test_memory_that_grew_by_more_than_a_tenth_fails_a_soak_unless_it_is_the_store_s() -> None:
    assert SoakResult(GOOD, [], {"w1": 1.09, "nats": 3.0}).is_good
    result = SoakResult(GOOD, [], {"w1": 1.11})
    assert not result.is_good
    assert result.grown == ["w1: RSS grew by 11 %"]


def test_the_plot_is_svg_with_a_line_for_each_process() -> None:
    curves = [Curve("w<1>", [(0.0, 1.0), (1.0, 2.0)]), Curve("w2", [(0.0, 3.0)]), Curve("none", [])]
    root = ET.fromstring(chart([("memory", curves), ("files", curves)], "minutes"))
    entries = root.findall("{http://www.w3.org/2000/svg}polyline")
    texts = [text.text for text in root.findall("{http://www.w3.org/2000/svg}text")]
    assert len(entries) == 4
    assert {"w<1>", "w2", "memory", "files"} <= set(texts)
