"""Packages that only evaluations need, imported when they are used."""

from __future__ import annotations

import importlib
from typing import Any

from caloforge.errors import MissingDependencyError

__all__ = ["needed"]


def needed(module: str, package: str = "scipy") -> Any:
    """A module of an optional package; MissingDependencyError says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(package, "evaluate") from error
