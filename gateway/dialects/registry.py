"""Finds the dialects: every module of this package that has a `DIALECT`."""

import importlib
import pkgutil

import gateway.dialects
from gateway.http.dialect import Dialect


def dialects() -> list[Dialect]:
    """Every dialect, in the order of its module's name."""
    prefix = f"{gateway.dialects.__name__}."
    names = sorted(module.name for module in pkgutil.walk_packages(gateway.dialects.__path__, prefix))
    modules = [importlib.import_module(name) for name in names]
    return [module.DIALECT for module in modules if hasattr(module, "DIALECT")]
