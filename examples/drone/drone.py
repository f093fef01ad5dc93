"""An engine of Antiphon on torch: a chord that a module computes on the device, block by block."""

from collections.abc import Generator, Hashable, Sequence
from typing import Any

from bus.bound import SecondsParam
from gpuworker.engine import (
    Block,
    Capabilities,
    Determinism,
    Done,
    EngineJob,
    Estimate,
    Event,
    MemoryPolicy,
    OutOfMemory,
    Requirement,
    Resume,
)

RATE_HZ = 48_000
BLOCK_FRAMES = RATE_HZ // 5


class Drone:
    """Holds a chord; the seed chooses it."""

    def __init__(self) -> None:
        self._model: Any = None
        self._device = "cpu"

    def capabilities(self) -> Capabilities:
        return Capabilities(
            name="drone",
            kind="music",
            rate_hz=RATE_HZ,
            channels=1,
            resume=Resume.RANDOM_ACCESS,
            determinism=Determinism.SAME_BUILD,
            param_schema={
                "type": "object",
                "additionalProperties": False,
                "properties": {"seconds": {"type": "number", "minimum": 1, "maximum": 600, "default": 4}},
            },
            max_input_chars=1_000,
            bound=SecondsParam(param="seconds", default_s=4),
            requires=(Requirement("antiphon[models]", module="torch"),),
        )

    def validate(self, job: EngineJob) -> EngineJob:
        return job

    def estimate(self, job: EngineJob, batch: int = 1) -> Estimate:
        seconds = round(job.params["seconds"] * RATE_HZ) / RATE_HZ
        return Estimate(device_bytes=4 * BLOCK_FRAMES, seconds=seconds, cost_s=0.01 * seconds)

    def batch_key(self, job: EngineJob) -> Hashable | None:
        return None

    def load(self, device: str, policy: MemoryPolicy) -> None:
        import torch  # here, not above: capabilities are read on machines without torch

        torch.manual_seed(0)  # the weights; a real engine loads a file that its options name
        self._device = device
        self._model = torch.nn.Linear(8, 5, bias=False).to(device).eval()

    def warm_up(self) -> None:
        self._block([220.0] * 5, 0, 1)

    def generate(self, jobs: Sequence[EngineJob]) -> Generator[tuple[int, Event], None, None]:
        import torch

        for index, job in enumerate(jobs):
            noise = torch.Generator().manual_seed(job.seed)  # never the global one: equal jobs sound equal
            with torch.inference_mode():
                steps = self._model(torch.randn(8, generator=noise).to(self._device)).tolist()
            pitches = [220.0 * 2 ** (round(12 * step) / 12) for step in steps]
            end = round(job.params["seconds"] * RATE_HZ)
            # On a grid from frame 0, so that a replacement makes the same blocks.
            for first in range(job.start_frame // BLOCK_FRAMES * BLOCK_FRAMES, end, BLOCK_FRAMES):
                try:
                    pcm = self._block(pitches, first, min(BLOCK_FRAMES, end - first))
                except torch.OutOfMemoryError as error:
                    torch.cuda.empty_cache()
                    raise OutOfMemory(str(error)) from error
                yield index, Block(first, pcm)
            yield index, Done()

    def _block(self, pitches: Sequence[float], first: int, count: int) -> Any:
        import torch

        with torch.inference_mode():
            times = torch.arange(first, first + count, device=self._device, dtype=torch.float64) / RATE_HZ
            angles = times[:, None] * torch.tensor(pitches, device=self._device, dtype=torch.float64) * (2 * torch.pi)
            return angles.sin().mean(1, keepdim=True).mul(0.8).float().cpu().numpy()

    def unload(self) -> None:
        self._model = None
