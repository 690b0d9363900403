"""Adapting a trained model to a new detector, or to new showers of a known one, with few showers.

Weights are trained on, all or a few numbers of them (see `updates`), from where they are, with a smaller
learning rate and for fewer steps. A new detector takes a spare slot of the model (Raikwar, Zaborowska,
McKeown et al., CaloDiT-2, arXiv:2509.07700, who need up to 25 times fewer showers and 20 times fewer steps
than from scratch).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.data.formats import open_showers
from caloforge.data.quantities import whole_number
from caloforge.data.showers import Showers
from caloforge.errors import DataError
from caloforge.settings import with_overrides
from caloforge.training.loop import train
from caloforge.training.recipe import Recipe
from caloforge.training.updates import UPDATES

__all__ = ["adapt", "adaptation_recipe"]

LEARNING_RATE = 0.3
"""Learning rates are this share of those of the training."""
STEPS = 0.1
"""The steps that are made at most, as a share of those of the training."""
FEWEST_STEPS = 100
PATIENCE = 0.25
"""A part is stopped when its validation loss was no better for this share of all epochs."""
FEWEST_EPOCHS = 5
MOST_HELD_OUT, HELD_OUT = 0.2, 100
"""A fifth of few showers is held out, until it is so many: of fewer the loss says little."""
FEW = 30
"""Of fewer showers the best update is that of tables."""


def adapt(
    checkpoint: Checkpoint | str | os.PathLike[str],
    showers: Showers | str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    n: int | None = None,
    steps: int | None = None,
    update: str | None = None,
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    overrides: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Checkpoint:
    """Go on from a trained model's weights with new showers, and save the result as a checkpoint.

    It is `train` with another start: part of the showers is held out, which stops it early, and a training
    that was stopped goes on with ``resume=True``. The detectors of the checkpoint keep their slots.

    Args:
        checkpoint: the model, its folder, or the name of one that comes with caloforge.
        showers: showers to adapt to, or their file.
        out: folder of the new checkpoint.
        n: take only the first n of the showers.
        steps: batches to train on, for each update; by default a tenth of those of the training, but at
            least 100.
        update: what is learnt, "tables", "low-rank", "all" or "best" of them, see `PartSettings`; by default
            what the recipe says, "all".
        seed: seed of the split, the order and all noise.
        resume, overwrite, device, threads, precision, progress: as for `train`.
        overrides: changes to the recipe of `adaptation_recipe`, under ``training`` only.

    Raises:
        RecipeError: the model cannot be adapted, or a change is illegal.
        CheckpointError: the model has no room for another detector, or not as many cells as the showers;
            ``out`` is in use, or what is in it cannot be resumed.
        DataError: there are not n showers.
        TrainingError: the loss became NaN or infinite, or the device is missing.
        KeyboardInterrupt: Ctrl-C, after saving.
    """
    checkpoint, showers = Checkpoint.load(checkpoint), open_showers(showers)
    if n is not None:
        n = whole_number("n", n, 0)
        if not 2 <= n <= len(showers):
            raise DataError(f"n must be from 2 to the {len(showers)} showers there are, got {n}")
        showers = showers[:n]
    steps = None if steps is None else whole_number("steps", steps)
    return train(
        adaptation_recipe(checkpoint, len(showers), steps=steps, update=update, overrides=overrides),
        showers,
        out=out,
        seed=seed,
        resume=resume,
        overwrite=overwrite,
        device=device,
        threads=threads,
        precision=precision,
        progress=progress,
        start=checkpoint,
    )


def adaptation_recipe(
    checkpoint: Checkpoint,
    n: int,
    *,
    steps: int | None = None,
    update: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Recipe:
    """The checkpoint's recipe as it is changed for adaptation with n showers.

    Learning rates are 0.3 of those of the training, steps a tenth, and each part stops when its validation
    loss was no better for a quarter of the epochs. One that was adapted already is adapted again with the
    rates and steps of that time. The recipe may be for other detectors than the new one. The best update of
    fewer than 30 showers is that of tables.
    """
    recipe = Recipe.load(checkpoint.recipe)
    training = recipe.training
    fresh = "start" not in checkpoint.provenance  # the recipe of an adapted model is one of adaptation
    rate, share = (LEARNING_RATE, STEPS) if fresh else (1.0, 1 / _ways(training.update))
    steps = steps or max(FEWEST_STEPS, round(share * int(checkpoint.metrics.get("steps", 0))))
    update = update or training.update
    if update == "best" and n < FEW:
        update = "tables"
    held_out = training.validation_fraction
    if held_out:
        held_out = max(held_out, min(MOST_HELD_OUT, HELD_OUT / n))
    n_training = max(1, n - round(n * held_out))
    epochs = -(-steps // max(1, n_training // training.batch_size))
    changes: dict[str, Any] = {
        "data.detectors": None,
        "training.select": None,  # patience decides instead
        "training.steps": steps * _ways(update),
        "training.update": None if update == "all" else update,
        "training.validation_fraction": held_out,
        "training.learning_rate": rate * training.learning_rate,
        "training.patience": max(FEWEST_EPOCHS, round(PATIENCE * epochs)),
    }
    for name, part in training.parts.items():
        changes[f"training.parts.{name}.patience"] = None
        if "learning_rate" in part.model_fields_set:
            changes[f"training.parts.{name}.learning_rate"] = rate * part.learning_rate
    return Recipe.load(with_overrides(recipe.to_dict(), changes), overrides)


def _ways(update: str) -> int:
    """How many updates are made one after the other."""
    return len(UPDATES) if update == "best" else 1
