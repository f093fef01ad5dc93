"""Delay between two tries of one operation."""

import random
from collections.abc import Callable
from typing import Final

#: 2.0 ** 64 is far above any ratio of `last_s` to `first_s`; a larger exponent could overflow.
_MAX_EXPONENT: Final = 64


def delay_s(
    attempt: int,
    first_s: float,
    last_s: float,
    uniform: Callable[[float, float], float] | None = random.uniform,
) -> float:
    """Seconds to wait before retry number `attempt`, which counts from 0.

    Doubles from `first_s` up to `last_s`, then subtracts a random part of at most half, so that processes that failed
    together do not retry together. `uniform(low, high)` draws that part; None: no jitter. Pure, given `uniform`.
    """
    full = min(last_s, first_s * 2.0 ** min(attempt, _MAX_EXPONENT))
    return full if uniform is None else full - uniform(0.0, full / 2)
