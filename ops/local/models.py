"""Which engines this machine can load, known without loading one: what is missing, and the command that mends it."""

import ctypes.util
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec

import msgspec

from bus.text import did_you_mean

#: What `antiphon up` serves unless told otherwise, as far as it can be loaded.
DEFAULT = ("speech", "music", "tone")
_GROUP = "antiphon.engines"


class Missing(msgspec.Struct, frozen=True):
    """Why a model cannot be served, and the command that changes it."""

    model: str
    reason: str
    mend: str


def missing(model: str) -> Missing | None:
    """What `model` lacks on this machine; None if its engine can be tried. Raises ValueError for a name nobody has."""
    known = {entry.name for entry in entry_points(group=_GROUP)}
    if model not in known:
        among = ", ".join(sorted(known)) or "none installed"
        raise ValueError(f"no engine called {model!r} among {among}{did_you_mean(model, known)}")
    if not _importable("numpy"):
        return Missing(model, "numpy is not installed", pip("worker"))
    if model == "music" and not _importable("torch"):
        return Missing(model, "torch is not installed", pip("models"))
    if model == "speech" and not _importable("espeakng_loader") and not has_flite():
        return Missing(model, "neither the espeak-ng wheel nor libflite is installed", pip("espeak"))
    return None


def pip(extra: str) -> str:
    """The command that installs one of our extras into this very environment."""
    return f"{sys.executable} -m pip install 'antiphon[{extra}]'"


def has_flite() -> bool:
    return bool(ctypes.util.find_library("flite"))


def _importable(name: str) -> bool:
    return find_spec(name) is not None
