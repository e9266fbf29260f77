"""Finding the parts of a package, so that adding one is adding a file.

>>> from apisr.video import containers
>>> [module.__name__.rpartition(".")[2] for module in modules_with(containers, "ENTRIES")][:2]
['avi', 'matroska']
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Collection
from types import ModuleType


def modules_with(package: ModuleType, attribute: str, *, passed_over: Collection[str] = ()) -> list[ModuleType]:
    """Import the modules of a package and return those that have an attribute, in the order of their names.

    Args:
        package: where to look.
        attribute: what a part holds.
        passed_over: names of modules that are no parts and stand above them (they import the list of parts).
    """
    names = [module.name for module in pkgutil.iter_modules(package.__path__) if module.name not in passed_over]
    modules = [importlib.import_module(f"{package.__name__}.{name}") for name in names]
    return [module for module in modules if hasattr(module, attribute)]
