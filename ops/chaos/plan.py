"""What is going to happen, decided by a seed before anything runs: which fault when, which request by which client.

Pure: no clock, no processes. Equal seeds make equal schedules and equal requests; what they meet depends on the run.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

#: Of every thousand faults, so many of each kind.
WEIGHTS: Final[Mapping[str, int]] = {
    "worker_kill": 700,
    "host_kill": 150,
    "worker_freeze": 50,
    "gateway_kill": 40,
    "nats_restart": 20,
    "nats_outage": 10,
    "worker_hiccup": 6,
    "hang_up": 6,
    "slow": 5,
    "poison": 5,
    "wrong": 4,
    "clock": 4,
}
#: Only if asked for by name.
EXTRA: Final[Mapping[str, int]] = {"leader_kill": 20, "disk": 20}
KINDS: Final = (*WEIGHTS, *EXTRA)
#: Faults that are a client's behaviour; the others are done to processes.
CLIENT_KINDS: Final = frozenset({"hang_up", "slow", "poison", "wrong", "clock"})

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
class Fault:
    """One fault. `at_s` counts from the start; `pick` in [0, 1) chooses among the targets that live at that moment."""

    at_s: float
    kind: str
    pick: float
    #: Of a freeze or an outage.
    for_s: float = 0.0
    #: A freeze of the worker's whole process group, not of the worker alone.
    whole: bool = False


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


def counts(num_faults: int, kinds: tuple[str, ...] = tuple(WEIGHTS)) -> dict[str, int]:
    """How many of each kind: in proportion, at least one of each while there are enough, `num_faults` in all."""
    weights = {kind: ({**WEIGHTS, **EXTRA})[kind] for kind in kinds}
    if num_faults < len(weights):
        heaviest = sorted(weights, key=lambda kind: -weights[kind])[:num_faults]
        return dict.fromkeys(heaviest, 1)
    whole = sum(weights.values())
    exact = {kind: max(1.0, num_faults * weight / whole) for kind, weight in weights.items()}
    counted = {kind: int(share) for kind, share in exact.items()}
    rest = num_faults - sum(counted.values())
    by_remainder = sorted(exact, key=lambda kind: counted[kind] - exact[kind])
    for kind in by_remainder[: max(0, rest)]:
        counted[kind] += 1
    for kind in sorted(counted, key=lambda kind: -counted[kind])[:1]:
        counted[kind] += min(0, rest)
    return counted


def schedule(
    seed: int, num_faults: int, duration_s: float, ack_wait_s: float, kinds: tuple[str, ...] = tuple(WEIGHTS)
) -> list[Fault]:
    """All faults, in their order, spread over `duration_s` at random: they overlap as it comes."""
    rng = random.Random(f"faults {seed}")
    drawn = [kind for kind, count in counts(num_faults, kinds).items() for _ in range(count)]
    rng.shuffle(drawn)
    times = sorted(rng.uniform(0, duration_s) for _ in drawn)
    return [_fault(rng, at_s, kind, ack_wait_s) for at_s, kind in zip(times, drawn, strict=True)]


def _fault(rng: random.Random, at_s: float, kind: str, ack_wait_s: float) -> Fault:
    pick, whole = rng.random(), rng.random() < 0.5
    spans = {
        "worker_freeze": (1.05 * ack_wait_s, 2 * ack_wait_s),
        "worker_hiccup": (0.05, 0.95 * ack_wait_s),
        "nats_outage": (0.5, 5.0),
        "leader_kill": (0.5, 3.0),
        "disk": (2.0, 6.0),
    }
    least_s, most_s = spans.get(kind, (0.0, 0.0))
    return Fault(round(at_s, 3), kind, pick, round(rng.uniform(least_s, most_s), 3), whole)


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
