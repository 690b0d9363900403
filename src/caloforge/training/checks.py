"""What is checked before a training begins: the folder, the showers on another mesh, the start."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from caloforge.checkpoint.checkpoint import ABOUT, Checkpoint
from caloforge.data.showers import Showers
from caloforge.errors import CheckpointError, DataError, RecipeError
from caloforge.models.base import load_model_class
from caloforge.models.names import current_name, current_names
from caloforge.training.recipe import Recipe
from caloforge.training.state import has_state, remove_state

__all__ = ["check_given", "check_start", "finished_training"]


def finished_training(
    folder: Path, recipe: Recipe, seed: int, resume: bool, overwrite: bool
) -> Checkpoint | None:
    """Make sure that ``folder`` may be written; returns the checkpoint of a training that is finished."""
    state = folder / "resume"
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder} is a file; give the name of a folder for the checkpoint")
    if resume and not has_state(state) and (folder / ABOUT).exists():
        checkpoint = Checkpoint.load(folder)
        if current_names(checkpoint.recipe) == recipe.to_dict() and checkpoint.seed == seed:
            return checkpoint
        raise CheckpointError(
            f"{folder} holds a finished training with another recipe or seed; choose another folder or "
            "replace it with overwrite=True (--overwrite)"
        )
    if not resume and not overwrite:
        if has_state(state):
            raise CheckpointError(
                f"{folder} holds an unfinished training; go on with resume=True (--resume) or replace "
                "it with overwrite=True (--overwrite)"
            )
        if (folder / ABOUT).exists():
            raise CheckpointError(
                f"{folder} holds a checkpoint; choose another folder or use overwrite=True (--overwrite)"
            )
    if not resume:
        remove_state(state)
    return None


def check_given(given: Showers, showers: Showers) -> None:
    """DataError unless both hold the same showers in the same order, as far as conditions tell."""
    if len(given) != len(showers):
        raise DataError(
            f"{len(given)} showers are given for {len(showers)} to train on; they must be the same"
        )
    energy, other = showers.conditions.energy, given.conditions.energy
    wrong = np.flatnonzero(~np.isclose(energy, other, rtol=1e-5))
    if len(wrong):
        raise DataError(
            f"the given shower {wrong[0]} is of {other[wrong[0]]:.6g} MeV, that to train on of "
            f"{energy[wrong[0]]:.6g} MeV; both files must hold the same showers in the same order"
        )


def check_start(start: Checkpoint, recipe: Recipe, showers: Showers) -> None:
    """RecipeError unless the recipe is for this model, CheckpointError unless the showers' cells fit it."""
    model_class = load_model_class(recipe.model)
    wanted, there = (model_class.Settings.model_validate(s) for s in (recipe.settings, start.settings))
    if recipe.model != current_name(start.model_name) or wanted != there:
        raise RecipeError(
            f"the model and its settings are those of the checkpoint {start.path or ''} that is the start "
            "and cannot be changed; change those under training only"
        )
    for name, mesh in showers.meshes.items():
        if name in start.detectors or not model_class.joint:
            start.require_mesh(mesh, "the file of showers", name)
        elif (mesh.kind, mesh.frame, mesh.shape) != (start.mesh.kind, start.mesh.frame, start.mesh.shape):
            raise CheckpointError(
                f"the showers in {name} are on a {mesh} in the {mesh.frame}'s frame, but the checkpoint "
                f"{start.path or ''} makes showers on a {start.mesh} in the {start.mesh.frame}'s frame; it "
                "can be adapted to cells of other sizes, but not to another number of them"
            )
