"""The voices that an operator can install, as the engine that reads them describes them."""

from pathlib import Path
from typing import Any

import msgspec

from bus.fleet.messages import Voice
from ops.errors import OpsError, UsageRefused
from ops.local import models


class InstallableVoice(msgspec.Struct, frozen=True):
    """A voice as its engine describes it: the fields of the engine's own `InstallableVoice`."""

    name: str
    files: list[str]
    rate_hz: int
    voices: list[Voice]
    pace: dict[str, float]
    reads: dict[str, list[str]]


def describe(model: str, name: str, folder: Path) -> InstallableVoice:
    """The voice `name` of the files in `folder`. Raises OpsError; UsageRefused for a model that takes no voices."""
    try:
        lack = models.missing(model)
    except ValueError as error:
        raise UsageRefused(f"--model: {error}") from error
    if lack is not None:
        raise OpsError(f"{model}: {lack.reason}; get it with: {lack.mend}, then restart `antiphon up` or the workers")
    from gpuworker import registry  # noqa: PLC0415  # needs numpy, which a machine without a worker may lack

    try:
        engine: Any = registry.find(model).load()
    except Exception as error:
        raise OpsError(f"the engine {model} cannot be imported: {type(error).__name__}: {error}") from error
    if not hasattr(engine, "describe_voice"):
        raise UsageRefused(f"--model: {model} takes no voices of yours")
    try:
        found = engine.describe_voice(name, folder)
    except Exception as error:
        raise OpsError(f"{name} cannot be installed: {error}") from error
    return msgspec.convert(found, InstallableVoice, from_attributes=True)
