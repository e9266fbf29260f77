"""Finding the parts of a package, so that adding one is adding a file.

>>> [module.__name__.rpartition(".")[2] for module in modules_with("apisr.video.containers", "ENTRIES")][:2]
['avi', 'matroska']
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Collection
from types import ModuleType


def file_names(package: str) -> list[str]:
    """Return the names of a package's modules without importing them, in alphabetical order."""
    return [module.name for module in pkgutil.iter_modules(importlib.import_module(package).__path__)]


def modules_with(package: str, attribute: str, *, passed_over: Collection[str] = ()) -> list[ModuleType]:
    """Import the modules of a package and return those that have an attribute, in the order of their names.

    Args:
        package: name of the package to look in.
        attribute: what a part holds.
        passed_over: names of modules that are no parts and stand above them (they import the list of parts).
    """
    names = [name for name in file_names(package) if name not in passed_over]
    modules = [importlib.import_module(f"{package}.{name}") for name in names]
    return [module for module in modules if hasattr(module, attribute)]
