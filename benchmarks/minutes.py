"""Trainings that take so many minutes of a processor each; how many steps that is, is measured first."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caloforge import train
from caloforge.data import Showers
from caloforge.training.recipe import Recipe

__all__ = ["changes_for"]

LENGTHS = (20, 20, 220)
"""Steps of trials; the first warms up, the difference of the others is what their steps take."""
MEASUREMENTS = 10
"""Of the figure of merit, in trainings that choose weights by it."""


def changes_for(
    minutes: float,
    recipe: str,
    showers: Showers | Path,
    plan: Path,
    changes: Mapping[str, Any] | None = None,
    teacher: Path | None = None,
) -> dict[str, Any]:
    """``changes`` of a recipe, and those with which it takes so long on one thread.

    The number of steps is kept in the file ``plan``, for when the run goes on.
    """
    own = dict(changes or {})
    if not plan.exists():
        _, first, second = (_seconds(recipe, steps, showers, own, teacher) for steps in LENGTHS)
        plan.write_text(f"{max(round(60 * minutes * (LENGTHS[2] - LENGTHS[1]) / (second - first)), 1)}\n")
    own["training.steps"] = steps = int(plan.read_text())
    if Recipe.load(recipe, own).training.select is not None:
        own["training.select.every"] = max(steps // MEASUREMENTS, 1)
    return own


def _seconds(
    recipe: str, steps: int, showers: Showers | Path, changes: Mapping[str, Any], teacher: Path | None
) -> float:
    """Processor seconds of a short training, which chooses no weights."""
    short = {**changes, "training.steps": steps, "training.select": None}
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model"
        train(recipe, showers, out=out, threads=1, overrides=short, teacher=teacher, progress=False)
    return time.process_time() - begin
