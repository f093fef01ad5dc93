"""What an engine host says of its device's memory: only what an engine knows, only when it may have changed."""

from types import SimpleNamespace

import pytest

from gpuworker.engine import MemoryPolicy, Weighing
from gpuworker.engines.music.engine import Music
from gpuworker.engines.tone import Tone
from gpuworker.host.device_memory import Scale


class Weighed(Tone):
    def __init__(self, *told: int | None) -> None:
        super().__init__()
        self.told, self.asked = list(told), 0

    def device_bytes(self) -> int | None:
        self.asked += 1
        return self.told.pop(0) if len(self.told) > 1 else self.told[0]


def test_the_largest_figure_counts_for_engines_of_one_library_tell_the_same() -> None:
    told: list[int | None] = []
    scale = Scale(told.append)
    for engine in (Weighed(3), Weighed(7), Tone(), Weighed(None)):
        scale.loaded(engine, 10.0)
    assert scale.wait_s(10.0) == 0.0
    scale.weigh(10.0)
    assert (told, scale.wait_s(10.0)) == ([7], None)


def test_engines_are_asked_once_after_many_steps_and_told_of_only_if_they_changed() -> None:
    told: list[int | None] = []
    engine, scale = Weighed(1, 1, 1, 2), Scale(told.append)
    scale.loaded(engine, 0.0)
    scale.weigh(0.0)
    for now in (1.0, 1.1, 1.2, 1.9):
        scale.stepped(now)
        scale.weigh(now)
    assert (scale.wait_s(1.9), engine.asked) == (pytest.approx(0.1), 2)
    scale.weigh(2.0)
    assert (told, engine.asked, scale.wait_s(2.0)) == ([1], 3, None)
    scale.stepped(2.5)
    scale.weigh(3.5)
    assert told == [1, 2]


def test_a_host_whose_engines_know_nothing_of_a_device_is_not_kept_awake() -> None:
    told: list[int | None] = []
    scale = Scale(told.append)
    for engine in (Tone(), Weighed(None)):
        scale.loaded(engine, 0.0)
    scale.stepped(1.0)
    assert (scale.wait_s(1.0), told) == (None, [])


def test_music_tells_what_torch_has_reserved_of_a_gpu_and_nothing_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    music = Music()
    assert isinstance(music, Weighing)
    assert music.device_bytes() is None
    music.load("cpu", MemoryPolicy())
    assert music.device_bytes() is None
    monkeypatch.setattr(torch.cuda, "memory_reserved", {"cuda:1": 64 << 20}.__getitem__)
    on_gpu = SimpleNamespace(on_gpu=True, silence=SimpleNamespace(device="cuda:1"))
    monkeypatch.setattr(music, "_studio", on_gpu)
    assert music.device_bytes() == 64 << 20
