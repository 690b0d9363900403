"""Trainings that take so many minutes of a processor each, how many steps that is, and where that was."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from caloforge import train
from caloforge.checkpoint import Checkpoint
from caloforge.data import Showers
from caloforge.runtime.processor import processor_name
from caloforge.runtime.provenance import commit_of
from caloforge.training.recipe import Recipe

__all__ = ["about_here", "changes_for", "how_trained", "is_trained", "place_of", "told"]

SHORT, LONG = 10, (20, 200)
"""Steps of trials: two short ones, of which the first warms up, and how many more a longer one has, as many
as take about `TRIAL` seconds; the difference is what they take."""
TRIAL = 30.0
MEASUREMENTS = 10
"""Of the figure of merit, in trainings that choose weights by it."""


def about_here() -> dict[str, str]:
    """Where and when numbers are measured."""
    processor = processor_name()
    article = "an" if processor[:1] in "AEIO" else "a"
    return {
        "machine": f"one thread of {article} {processor}",
        "commit": commit_of(Path(__file__).parents[1]),
        "date": date.today().isoformat(),
    }


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
    if Recipe.load(recipe, own).training.steps == 0:  # fitted, not trained
        return own
    if not plan.exists():
        first = min(_seconds(recipe, SHORT, showers, own, teacher) for _ in range(2))
        more = min(max(round(TRIAL * SHORT / first), LONG[0]), LONG[1])
        took = _seconds(recipe, SHORT + more, showers, own, teacher) - first
        plan.write_text(f"{max(round(60 * minutes * more / took), 1)}\n")
    own["training.steps"] = steps = int(plan.read_text())
    if Recipe.load(recipe, own).training.select is not None:
        own["training.select.every"] = max(steps // MEASUREMENTS, 1)
    return own


def is_trained(model: Path) -> bool:
    """True where a training of this folder is over, wherever that was."""
    return (model / "checkpoint.json").exists() and not (model / "resume").exists()


def place_of(name: str, folder: Path, models: Path | None) -> Path:
    """Folder of a model: in ``models``, which were trained before, or else in that of the results."""
    return models / name if models is not None and is_trained(models / name) else folder / name


def how_trained(checkpoint: Checkpoint) -> dict[str, Any]:
    """Showers that a model was trained on, none for one that needs none; minutes, and where."""
    made_by, seconds = checkpoint.provenance, checkpoint.metrics.get("seconds", 0.0)
    device = made_by.get("device") or made_by.get("settings", {}).get("device", "cpu")
    return {"showers": made_by.get("n_training", 0), "minutes": seconds / 60, "device": device}


def told(training: Mapping[str, Any]) -> str:
    """`how_trained` in words."""
    return f"{training['minutes']:.1f}, {training['device']}" if training["showers"] else "–"


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
