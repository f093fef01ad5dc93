"""The outcome of a check: an exception that says which rule an engine breaks, or why the rule is not about it."""

from typing import Final

import numpy as np

from gpuworker.engine import Determinism, Engine, Pcm

#: Greatest difference of a sample between equal jobs of an engine of `Determinism.TOLERANCE`.
TOLERANCE: Final = 1e-3


class Broken(AssertionError):
    """The engine breaks a rule of the protocol; the text names what it did and what the rule demands."""


class NotApplicable(Exception):
    """The rule is about something that the engine declares to lack; the text says what."""


def require(condition: object, message: str) -> None:
    """Raise Broken with `message` unless `condition` is true."""
    if not condition:
        raise Broken(message)


def require_same(engine: Engine, one: Pcm, other: Pcm, which: str) -> None:
    """Raise Broken unless both are equal as far as the engine's determinism promises. `which` names them."""
    require(one.shape == other.shape, f"{which}: {len(one)} frames, not {len(other)}")
    determinism = engine.capabilities().determinism
    if determinism in {Determinism.BITWISE, Determinism.SAME_BUILD}:
        differing = np.flatnonzero(np.any(one != other, axis=1))
        require(
            one.tobytes() == other.tobytes(),
            f"{which}: {len(differing)} frames differ, the first is {differing[0] if len(differing) else 0}; "
            f"determinism is {determinism}",
        )
    elif determinism is Determinism.TOLERANCE:
        difference = float(np.abs(one - other).max(initial=0))
        require(difference <= TOLERANCE, f"{which}: a sample differs by {difference:g}, the limit is {TOLERANCE:g}")
