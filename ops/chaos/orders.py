"""The requests of a chaos run and how their clients behave, decided by a seed.

Pure: no clock, no processes. Equal seeds make equal requests.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

#: Of every hundred requests of the steady load, so many behave like this.
_MANNERS: Final[Mapping[str, int]] = {"listen": 56, "return": 12, "poll": 14, "fast": 8, "hang_up": 6, "slow": 4}
_MODELS: Final[Mapping[str, int]] = {"tone": 84, "speech": 11, "music": 5}
#: What the reference recordings are made of: input and params by model.
PIECES: Final[Mapping[str, tuple[tuple[str, Mapping[str, Any]], ...]]] = {
    "speech": (
        ("The quick brown fox jumps over the lazy dog, again and again, until the evening comes.", {}),
        ("One side calls, the other answers. Nothing that was promised is lost, whoever leaves the choir.", {}),
        ("Twelve voices, three workers, two gateways, and not one sample out of place.", {}),
    ),
    "music": (("a calm evening", {"seconds": 6.0}), ("a bright march", {"seconds": 4.0})),
}
_TONE_BLOCK_MS: Final = (40, 100, 200)
#: In how many attempts a poisonous job fails, if not in all of them.
_ONCE, _ALWAYS = 1, 1000


@dataclass(frozen=True, slots=True)
class Order:
    """One request and how its client behaves."""

    number: int
    #: listen, return, poll, fast, hang_up, slow, poison, wrong, clock.
    manner: str
    model: str
    input: str
    params: Mapping[str, Any] = field(default_factory=dict)
    #: Of the audio; 0: known from the reference recording alone.
    seconds: float = 0.0
    #: What the engine needs for one block.
    compute_s: float = 0.0
    #: Ends that are right for an accepted job.
    may_end: frozenset[str] = frozenset({"done"})
    #: Where this client leaves, as a share of the audio.
    leave_at: float = 1.0
    #: For `clock`: `expires_at`, in seconds from when the request is made.
    expires_in_s: float | None = None

    @property
    def piece(self) -> str:
        """Names what must be heard; equal for requests of equal samples."""
        return f"{self.model}/{self.input}" if self.model in PIECES else "tone"


class Orders:
    """The requests of a run, one after the other."""

    def __init__(self, seed: int, models: tuple[str, ...]) -> None:
        self._rng = random.Random(f"orders {seed}")
        self._models = {model: weight for model, weight in _MODELS.items() if model in models}
        self._number = 0

    def next(self, manner: str = "") -> Order:
        """The next request; `manner` asks for one of that behaviour."""
        rng = self._rng
        self._number += 1
        manner = manner or _draw(rng, _MANNERS)
        if manner == "poison":
            return self._poison()
        if manner == "wrong":
            return self._wrong()
        if manner == "clock":
            past = rng.random() < 0.4
            shift_s = -rng.choice((1.0, 3600.0, 30 * 86_400.0)) if past else rng.uniform(0.5, 3.0)
            return self._tone(manner, rng.uniform(4, 8), 1.0, frozenset({"expired"}), expires_in_s=shift_s)
        leave_at = rng.uniform(0.05, 0.9) if manner in {"hang_up", "return"} else 1.0
        may_end = frozenset({"done", "cancelled"} if manner == "hang_up" else {"done"})
        model = _draw(rng, self._models)
        if model in PIECES:
            text, params = rng.choice(PIECES[model])
            return Order(self._number, manner, model, text, params, may_end=may_end, leave_at=leave_at)
        if manner in {"fast", "slow"}:
            return self._tone(manner, rng.uniform(20, 60), 0.0, may_end, leave_at)
        return self._tone(manner, rng.uniform(3, 14), rng.uniform(1.0, 3.0), may_end, leave_at)

    def _tone(
        self,
        manner: str,
        seconds: float,
        speed: float,
        may_end: frozenset[str],
        leave_at: float = 1.0,
        expires_in_s: float | None = None,
        **more: Any,
    ) -> Order:
        """`speed`: times real time; 0: as fast as it goes."""
        block_ms = self._rng.choice(_TONE_BLOCK_MS)
        compute_ms = round(block_ms / speed, 1) if speed else 0
        seconds = round(seconds, 2)
        params = {"seconds": seconds, "block_ms": block_ms, "compute_ms": compute_ms, "device": "own", **more}
        return Order(
            self._number, manner, "tone", "tone", params, seconds, compute_ms / 1000, may_end, leave_at, expires_in_s
        )

    def _poison(self) -> Order:
        rng = self._rng
        kind, times = rng.choice(("raise", "exit", "hang", "nan")), rng.choice((_ONCE, _ALWAYS))
        if times == _ALWAYS:
            may_end = frozenset({"failed"})
        else:  # an earlier attempt may have been spent on a worker that was killed
            may_end = frozenset({"done", "failed"} if kind in {"raise", "nan"} else {"done"})
        fault = {"kind": kind, "at_block": rng.randrange(10), "times": times}
        return self._tone("poison", rng.uniform(3, 6), 2.0, may_end, fault=fault)

    def _wrong(self) -> Order:
        model, text, params = self._rng.choice(
            (
                ("tone", "tone", {"seconds": -1}),
                ("tone", "tone", {"no_such_param": 1}),
                ("no-such-model", "x", {}),
                ("tone", "", {}),
                ("tone", "tone", {"device": "toaster"}),
            )
        )
        return Order(self._number, "wrong", model, text, params, may_end=frozenset({"failed"}))


def _draw(rng: random.Random, weights: Mapping[str, int]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]
