"""The requests of a chaos run and how their clients behave, decided by a seed.

Pure: no clock, no processes. Equal seeds make equal requests.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

#: Weights of the clients' behaviours in the steady load.
_BEHAVIOURS: Final[Mapping[str, int]] = {"listen": 56, "return": 12, "poll": 14, "fast": 8, "hang_up": 6, "slow": 4}
#: Weights of the models.
_MODELS: Final[Mapping[str, int]] = {"tone": 84, "speech": 11, "music": 5}
#: Input and params of the reference recordings, by model.
PIECES: Final[Mapping[str, tuple[tuple[str, Mapping[str, Any]], ...]]] = {
    "speech": (
        ("The quick brown fox jumps over the lazy dog, again and again, until the evening comes.", {}),
        ("One side calls, the other answers. Nothing that was promised is lost, whoever leaves the choir.", {}),
        ("Twelve voices, three workers, two gateways, and not one sample out of place.", {}),
    ),
    "music": (("a calm evening", {"seconds": 6.0}), ("a bright march", {"seconds": 4.0})),
}
_TONE_BLOCK_MS: Final = (40, 100, 200)
#: Number of attempts in which a poisonous job fails.
_ONCE: Final = 1
_ALWAYS: Final = 1000


@dataclass(frozen=True, slots=True)
class Request:
    """One request and how its client behaves."""

    number: int
    #: listen, return, poll, fast, hang_up, slow, poison, wrong, clock.
    behaviour: str
    model: str
    input: str
    params: Mapping[str, Any] = field(default_factory=dict)
    #: Length of the audio; 0 if only the reference recording knows it.
    seconds: float = 0.0
    #: Time that the engine needs for one block.
    compute_s: float = 0.0
    #: Kinds of end that are right for this request once it is accepted.
    valid_ends: frozenset[str] = frozenset({"done"})
    #: Share of the audio after which the client disconnects; 1: it stays to the end.
    leave_at: float = 1.0
    #: For `clock`: `expires_at`, in seconds from the moment of the request.
    expires_in_s: float | None = None

    @property
    def piece(self) -> str:
        """Key of the reference audio; equal for requests of equal samples."""
        return f"{self.model}/{self.input}" if self.model in PIECES else "tone"


class Requests:
    """Draws the requests of a run, one after the other."""

    def __init__(self, seed: int, models: tuple[str, ...]) -> None:
        """Only `models` are requested."""
        self._rng = random.Random(
            f"orders {seed}"
        )  # with this text the seeds of earlier reports make the same requests
        self._models = {model: weight for model, weight in _MODELS.items() if model in models}
        self._number = 0

    def next(self, behaviour: str = "") -> Request:
        """The next request, of a random behaviour or of the given one."""
        rng = self._rng
        self._number += 1
        behaviour = behaviour or _draw(rng, _BEHAVIOURS)
        if behaviour == "poison":
            return self._poison()
        if behaviour == "wrong":
            return self._wrong()
        if behaviour == "clock":
            past = rng.random() < 0.4
            shift_s = -rng.choice((1.0, 3600.0, 30 * 86_400.0)) if past else rng.uniform(0.5, 3.0)
            return self._tone(behaviour, rng.uniform(4, 8), 1.0, frozenset({"expired"}), expires_in_s=shift_s)
        leave_at = rng.uniform(0.05, 0.9) if behaviour in {"hang_up", "return"} else 1.0
        valid_ends = frozenset({"done", "cancelled"} if behaviour == "hang_up" else {"done"})
        model = _draw(rng, self._models)
        if model in PIECES:
            text, params = rng.choice(PIECES[model])
            return Request(self._number, behaviour, model, text, params, valid_ends=valid_ends, leave_at=leave_at)
        if behaviour in {"fast", "slow"}:
            return self._tone(behaviour, rng.uniform(20, 60), 0.0, valid_ends, leave_at)
        return self._tone(behaviour, rng.uniform(3, 14), rng.uniform(1.0, 3.0), valid_ends, leave_at)

    def _tone(
        self,
        behaviour: str,
        seconds: float,
        speed: float,
        valid_ends: frozenset[str],
        leave_at: float = 1.0,
        expires_in_s: float | None = None,
        **more: Any,
    ) -> Request:
        """`speed` is a multiple of real time; 0 means no compute time at all."""
        block_ms = self._rng.choice(_TONE_BLOCK_MS)
        compute_ms = round(block_ms / speed, 1) if speed else 0
        seconds = round(seconds, 2)
        params = {"seconds": seconds, "block_ms": block_ms, "compute_ms": compute_ms, "device": "own", **more}
        return Request(
            self._number,
            behaviour,
            "tone",
            "tone",
            params,
            seconds,
            compute_ms / 1000,
            valid_ends,
            leave_at,
            expires_in_s,
        )

    def _poison(self) -> Request:
        rng = self._rng
        kind, times = rng.choice(("raise", "exit", "hang", "nan")), rng.choice((_ONCE, _ALWAYS))
        if times == _ALWAYS:
            valid_ends = frozenset({"failed"})
        else:  # the poisonous attempt may have been one whose worker was killed before the fault
            valid_ends = frozenset({"done", "failed"} if kind in {"raise", "nan"} else {"done"})
        fault = {"kind": kind, "at_block": rng.randrange(10), "times": times}
        return self._tone("poison", rng.uniform(3, 6), 2.0, valid_ends, fault=fault)

    def _wrong(self) -> Request:
        model, text, params = self._rng.choice(
            (
                ("tone", "tone", {"seconds": -1}),
                ("tone", "tone", {"block_ms": 0}),
                ("no-such-model", "x", {}),
                ("tone", "", {}),
                ("tone", "tone", {"device": "toaster"}),
            )
        )
        return Request(self._number, "wrong", model, text, params, valid_ends=frozenset({"failed"}))


def _draw(rng: random.Random, weights: Mapping[str, int]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]
