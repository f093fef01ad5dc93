"""`music`: a composer. The prompt's words make a plan, the plan makes a score, and torch plays it block by block.

There is no model and no sample here: every sound is a formula of time, so a block can be made from its number alone,
which `Resume.RANDOM_ACCESS` promises. torch is imported by `load` alone.
"""

import math
import unicodedata
from collections.abc import Generator, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bus.bound import SecondsParam
from bus.quality import Limits
from bus.text import num_letters
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
    Rejected,
    Requirement,
    Resume,
)
from gpuworker.engines.music.form import RATE_HZ, Form
from gpuworker.engines.music.mood import BPM_MAX, BPM_MIN, KEY_PATTERN, SIX_EIGHTHS, Plan, parse_key, plan
from gpuworker.engines.music.orchestra import INSTRUMENTS

if TYPE_CHECKING:
    from gpuworker.engines.music.render import Studio

#: Of Han, kana or Hangul 2 are enough.
MIN_PROMPT_LETTERS = 5
MAX_PROMPT_CHARS = 2_000
MIN_SECONDS = 1
MAX_SECONDS = 36_000
DEFAULT_SECONDS = 30.0
#: Device memory of one piece while it plays: its buses, and the rows of the busiest block.
_JOB_BYTES = 64 << 20
#: Device seconds per second of music on one core; a GPU is not slower.
_COST = 0.06

_PARAMS: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "seconds": {
            "type": "number",
            "minimum": MIN_SECONDS,
            "maximum": MAX_SECONDS,
            "default": DEFAULT_SECONDS,
            "description": "Length of the piece.",
        },
        "bpm": {
            "type": "number",
            "minimum": BPM_MIN,
            "maximum": BPM_MAX,
            "description": "Tempo; without it the prompt decides.",
        },
        "key": {
            "type": "string",
            "minLength": 1,
            "maxLength": 24,
            "pattern": KEY_PATTERN,
            "description": "As in C, F#, Bb minor, Am or D dorian; without it the prompt decides.",
        },
        "metre": {
            "type": "integer",
            "enum": [2, 3, 4, 6],
            "description": "2/4, 3/4, 4/4 or 6/8; without it the prompt decides.",
        },
    },
}


class Music:
    """Prompts to music, 48 kHz stereo, half a second at a time.

    Equal prompt, seed and params give equal samples on an equal build and device. No global state of torch is left
    changed: while a block is computed torch runs on one intra-op thread and in inference mode, and between blocks it
    has the host's settings.
    """

    def __init__(self) -> None:
        self._studio: Studio | None = None

    def capabilities(self) -> Capabilities:
        """Readable without torch."""
        return Capabilities(
            name="music",
            kind="music",
            rate_hz=RATE_HZ,
            channels=2,
            resume=Resume.RANDOM_ACCESS,
            determinism=Determinism.SAME_BUILD,
            param_schema=_PARAMS,
            max_input_chars=MAX_PROMPT_CHARS,
            min_input_letters=MIN_PROMPT_LETTERS,
            bound=SecondsParam(param="seconds", default_s=DEFAULT_SECONDS),
            quality=Limits(min_bound_share=0.95, max_end_dbfs=-35.0),
            requires=(Requirement("antiphon[models]", module="torch"),),
        )

    def validate(self, job: EngineJob) -> EngineJob:
        """`job` with `params.seconds` filled in; the prompt decides the rest. Raises Rejected."""
        prompt = " ".join(job.input.split())
        if len(prompt) > MAX_PROMPT_CHARS:
            raise Rejected("input", f"a prompt has at most {MAX_PROMPT_CHARS} characters, this one {len(prompt)}")
        if num_letters(prompt) < MIN_PROMPT_LETTERS:
            raise Rejected(
                "input", f"a prompt has {MIN_PROMPT_LETTERS} letters, or 2 of Han, kana or Hangul, not {prompt[:20]!r}"
            )
        for place, character in enumerate(job.input):
            if unicodedata.category(character) == "Cc" and not character.isspace():
                raise Rejected(
                    "input", f"a prompt has no control characters, this one U+{ord(character):04X} at {place}"
                )
        params = {"seconds": DEFAULT_SECONDS, **job.params}
        _check_range("seconds", params["seconds"], MIN_SECONDS, MAX_SECONDS)
        if "bpm" in params:
            _check_range("bpm", params["bpm"], BPM_MIN, BPM_MAX)
        if "key" in params:
            try:
                parse_key(params["key"])
            except ValueError as error:
                raise Rejected("params.key", str(error)) from error
        return replace(job, input=prompt, params=params)

    def estimate(self, job: EngineJob, batch: int = 1) -> Estimate:
        """The length is exact; the cost counts the frames from `start_frame` on."""
        seconds = float(job.params.get("seconds", DEFAULT_SECONDS))
        left_s = max(0.0, seconds - job.start_frame / RATE_HZ)
        return Estimate(device_bytes=_JOB_BYTES, seconds=seconds, cost_s=left_s * _COST)

    def batch_key(self, job: EngineJob) -> Hashable | None:
        """None: every job runs alone."""
        return None

    def load(self, device: str, policy: MemoryPolicy) -> None:
        """Make the drums and the reverbs on `device`. `policy.dtype` is ignored: the audio is float32."""
        if self._studio is not None:
            return
        import torch  # noqa: PLC0415  # first start must not wait for torch

        from gpuworker.engines.music.render import Studio  # noqa: PLC0415

        self._studio = Studio(torch.device(device))

    def warm_up(self) -> None:
        """Play two short pieces: the first audio of a job must not wait for lazy initialisation."""
        for prompt in ("warm up pop", "warm up epic strings"):
            job = self.validate(EngineJob(id="warm-up", input=prompt, params={"seconds": 1.0}))
            for _ in self.generate([job]):
                pass

    def generate(self, jobs: Sequence[EngineJob]) -> Generator[tuple[int, Event], None, None]:
        """Blocks of 24,000 frames on a grid from frame 0, the first one holding `start_frame`. Jobs take turns.

        A start in the middle computes 3 blocks first, for the reverb, all in its first `next`; after that a `next` is a
        block.
        """
        if self._studio is None:
            raise RuntimeError("generate before load")
        playing = [(index, job, self._play(job, self._studio)) for index, job in enumerate(jobs)]
        while playing:
            going = []
            for index, job, events in playing:
                event = None if job.cancel.cancelled else next(events, None)
                if event is None:
                    events.close()
                    continue
                yield index, event
                going.append((index, job, events))
            playing = going

    def unload(self) -> None:
        """Free the drums and the reverbs, and torch's cache on a GPU. Idempotent."""
        if self._studio is None:
            return
        on_gpu = self._studio.on_gpu
        self._studio = None
        if on_gpu:
            import torch  # noqa: PLC0415  # loaded already

            torch.cuda.empty_cache()

    def device_bytes(self) -> int | None:
        """Bytes of the GPU that torch has reserved in this process, for every engine that uses it; None on a CPU."""
        if self._studio is None or not self._studio.on_gpu:
            return None
        import torch  # noqa: PLC0415  # loaded already

        return torch.cuda.memory_reserved(self._studio.silence.device)

    def _play(self, job: EngineJob, studio: "Studio") -> Generator[Event, None, None]:
        import torch  # noqa: PLC0415  # loaded already

        from gpuworker.engines.music.render import BLOCK, Renderer  # noqa: PLC0415

        piece, form = _piece(job)
        first_block = job.start_frame // BLOCK if job.start_frame < form.frames else math.ceil(form.frames / BLOCK)
        try:
            for first_frame, pcm in Renderer(studio, piece, form).blocks(first_block):
                yield Block(first_frame, pcm)
        except torch.OutOfMemoryError as error:
            raise OutOfMemory(str(error)) from error
        yield Done(_facts(piece, form))


def _piece(job: EngineJob) -> tuple[Plan, Form]:
    piece = plan(job.input, job.seed, job.params.get("bpm"), job.params.get("key"), job.params.get("metre"))
    seconds = float(job.params.get("seconds", DEFAULT_SECONDS))
    return piece, Form(seconds, 60 / piece.bpm, piece.beats, piece.style.slowing)


def _facts(piece: Plan, form: Form) -> Mapping[str, Any]:
    return {
        "bpm": piece.bpm,
        "key": piece.key.name,
        "mode": piece.key.mode,
        "metre": "6/8" if piece.metre == SIX_EIGHTHS else f"{piece.metre}/4",
        "style": piece.style_name,
        "form": form.listed(),
        "instruments": _instruments(piece),
    }


def _instruments(piece: Plan) -> list[str]:
    titles = dict.fromkeys(INSTRUMENTS[name].title for name in piece.voices.values())
    return [*titles, "drums"] if piece.groove else [*titles]


def _check_range(name: str, value: Any, least: float, most: float) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise Rejected(f"params.{name}", f"{name} is a number from {least} to {most}, not {value!r}")
    if not least <= value <= most:
        raise Rejected(f"params.{name}", f"{name} is from {least} to {most}, not {value}")
