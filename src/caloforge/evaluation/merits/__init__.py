"""Figures of merit: one number for how well showers agree, taken again and again in training.

A new one is a new file here, or a function elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable

from caloforge.data.showers import Showers
from caloforge.registry import Registry

__all__ = ["MERITS", "Merit"]

Merit = Callable[[Showers, Showers, int], float]
"""Of reference and generated showers at the same conditions, and a seed of draws; the less the better."""

MERITS: Registry[Merit] = Registry("figure of merit", "caloforge.evaluation.merits")
"""Figures of merit by name, ``training.select.by``."""
