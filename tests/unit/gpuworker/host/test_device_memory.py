"""An engine host reports device memory that an engine reads, and only when the value has changed."""

from types import SimpleNamespace

import pytest

from gpuworker.engine import MemoryPolicy, ReportsMemory
from gpuworker.engines.music.engine import Music
from gpuworker.engines.tone import Tone
from gpuworker.host.device_memory import DeviceMemory


class Measured(Tone):
    """Returns `readings` one after the other; the last one again and again."""

    def __init__(self, *readings: int | None) -> None:
        super().__init__()
        self.readings = list(readings)
        self.num_read = 0

    def device_bytes(self) -> int | None:
        self.num_read += 1
        return self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]


def test_the_largest_value_counts_for_engines_of_one_library_report_the_same() -> None:
    reports: list[int | None] = []
    memory = DeviceMemory(reports.append)
    for engine in (Measured(3), Measured(7), Tone(), Measured(None)):
        memory.add(engine, 10.0)
    assert memory.wait_s(10.0) == 0.0
    memory.poll(10.0)
    assert (reports, memory.wait_s(10.0)) == ([7], None)


def test_engines_are_read_once_after_many_steps_and_reported_only_if_they_changed() -> None:
    reports: list[int | None] = []
    engine = Measured(1, 1, 1, 2)
    memory = DeviceMemory(reports.append)
    memory.add(engine, 0.0)
    memory.poll(0.0)
    for now in (1.0, 1.1, 1.2, 1.9):
        memory.stepped(now)
        memory.poll(now)
    assert (memory.wait_s(1.9), engine.num_read) == (pytest.approx(0.1), 2)
    memory.poll(2.0)
    assert (reports, engine.num_read, memory.wait_s(2.0)) == ([1], 3, None)
    memory.stepped(2.5)
    memory.poll(3.5)
    assert reports == [1, 2]


def test_a_host_whose_engines_read_no_device_is_not_kept_awake() -> None:
    reports: list[int | None] = []
    memory = DeviceMemory(reports.append)
    for engine in (Tone(), Measured(None)):
        memory.add(engine, 0.0)
    memory.stepped(1.0)
    assert (memory.wait_s(1.0), reports) == (None, [])


def test_music_reports_the_memory_that_torch_has_reserved_of_a_gpu_and_none_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch = pytest.importorskip("torch")
    music = Music()
    assert isinstance(music, ReportsMemory)
    assert music.device_bytes() is None
    music.load("cpu", MemoryPolicy())
    assert music.device_bytes() is None
    monkeypatch.setattr(torch.cuda, "memory_reserved", {"cuda:1": 64 << 20}.__getitem__)
    on_gpu = SimpleNamespace(on_gpu=True, silence=SimpleNamespace(device="cuda:1"))
    monkeypatch.setattr(music, "_studio", on_gpu)
    assert music.device_bytes() == 64 << 20
