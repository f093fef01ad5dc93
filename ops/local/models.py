"""Which engines this machine can load, known without loading one: what is missing, and the command that mends it."""

import ctypes.util
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING

import msgspec

from bus.telemetry.logging import logger
from bus.text import did_you_mean
from gpuworker.settings import WorkerSettings
from ops.errors import OpsError, UsageRefused

if TYPE_CHECKING:
    from gpuworker.engine import Requirement

log = logger(__name__)

#: Served by `antiphon up` and `antiphon worker` unless the operator names others, as far as they can be loaded.
DEFAULT = ("speech", "music", "tone")
#: Served too where it can be loaded: a voice is installed while it runs. Without a voice it costs little.
_OPTIONAL = "piper"
#: The command that explains a distribution that cannot be imported.
PIP_CHECK = f"{sys.executable} -m pip check"
_GROUP = "antiphon.engines"


class Missing(msgspec.Struct, frozen=True):
    """Why a model cannot be served, and the command that changes it."""

    model: str
    reason: str
    mend: str


class Package(msgspec.Struct, frozen=True):
    """A Python module or a system library that an engine can be loaded with."""

    name: str
    is_installed: bool
    #: The command that installs it.
    mend: str


def missing(model: str) -> Missing | None:
    """The first thing that `model` lacks on this machine; None if its engine can be tried.

    Raises ValueError for a name that no installed engine has.
    """
    known = installed()
    if model not in known:
        among = ", ".join(known) or "none installed"
        raise ValueError(f"no engine called {model!r} among {among}{did_you_mean(model, known)}")
    if not _importable("numpy"):
        return Missing(model, "numpy is not installed", pip("antiphon[worker]"))
    try:
        required = requirements(model)
    except Exception as error:  # noqa: BLE001  # an engine's module is foreign code
        return Missing(model, f"{type(error).__name__}: {error}", PIP_CHECK)
    for packages in required:
        if not any(package.is_installed for package in packages):
            names = [package.name for package in packages]
            lacking = f"neither {' nor '.join(names)} is" if len(names) > 1 else f"{names[0]} is not"
            return Missing(model, f"{lacking} installed", packages[0].mend)
    return None


def chosen(named: tuple[str, ...]) -> tuple[str, ...]:
    """All models that `named` has; for none, those of `defaults` that this machine can load.

    Raises UsageRefused for an unknown name, OpsError if one that is named cannot be loaded, or none at all can.
    """
    wanted = named or defaults()
    try:
        lacks = [lack for model in wanted if (lack := missing(model))]
    except ValueError as error:
        raise UsageRefused(f"--models: {error}") from error
    if named and lacks:
        raise OpsError("; ".join(f"{lack.model}: {lack.reason}; get it with: {lack.mend}" for lack in lacks))
    for lack in lacks:
        log.warning("model.missing", model=lack.model, reason=lack.reason, fix=lack.mend)
    left = tuple(model for model in wanted if model not in {lack.model for lack in lacks})
    if not left:
        raise OpsError(f"no model can be loaded; get speech with: {pip('antiphon[worker,espeak]')}")
    return left


def defaults() -> tuple[str, ...]:
    """The models to serve where the operator names none. `piper` is among them only if this machine can load it."""
    has_optional = _OPTIONAL in installed() and missing(_OPTIONAL) is None
    return (*DEFAULT, _OPTIONAL) if has_optional else DEFAULT


def served(settings: WorkerSettings) -> tuple[str, ...]:
    """The models that the engines of a worker with these settings serve, most of them their own.

    Raises SettingsError for options of an engine with a table for each model that are none.
    """
    from gpuworker import registry  # noqa: PLC0415  # as below

    return tuple(each.model for name in settings.models for each in registry.served(name, settings.options_of(name)))


def installed() -> list[str]:
    """Names of the engines of all installed distributions, sorted."""
    return sorted({entry.name for entry in entry_points(group=_GROUP)})


def requirements(model: str) -> list[tuple[Package, ...]]:
    """The packages that the engine of `model` declares besides numpy; one of each tuple is enough.

    Raises whatever the engine's module raises when it is imported.
    """
    from gpuworker import registry  # noqa: PLC0415  # needs numpy, which a machine without a worker may lack

    declared = registry.make(model).capabilities().requires
    return [tuple(map(_package, (each, *each.otherwise))) for each in declared]


def pip(distribution: str) -> str:
    """The command that installs a distribution, `antiphon[models]`, into this very environment."""
    return f"{sys.executable} -m pip install '{distribution}'"


def _package(requirement: "Requirement") -> Package:
    if requirement.module:
        return Package(requirement.module, _importable(requirement.module), pip(requirement.install))
    is_there = ctypes.util.find_library(requirement.library) is not None
    return Package(requirement.library, is_there, requirement.install)


def _importable(name: str) -> bool:
    return find_spec(name) is not None
