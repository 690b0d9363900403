"""What is trained on what: a recipe, its showers, and the trained models that it learns or goes on from."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.data.conditions import Conditions, merged_ranges
from caloforge.data.described import described_detectors
from caloforge.data.fingerprint import data_fingerprint
from caloforge.data.operations import doubt_units
from caloforge.data.particles import pdg_name
from caloforge.data.showers import Showers
from caloforge.detector.detector import Detector
from caloforge.errors import CheckpointError, DataError, RecipeError
from caloforge.models.names import current_name
from caloforge.models.trainable import Trainable, load_trainable_class
from caloforge.runtime.seeds import derived_seed
from caloforge.training.loader import hold_out
from caloforge.training.recipe import Recipe

__all__ = ["TrainingTask"]

MARGIN_RAD = 1e-3
"""A sample of angles comes so near to those at which it was drawn to begin."""


@dataclass(frozen=True)
class TrainingTask:
    """One training, apart from where it runs; arguments are those of `caloforge.training.train`."""

    recipe: Recipe
    showers: Showers
    seed: int
    teacher: Checkpoint | None = None
    given: Showers | None = None
    start: Checkpoint | None = None

    def check(self) -> None:
        """Make sure that everything fits together.

        Raises:
            RecipeError: the recipe is not for these showers, or not that of the model to go on from.
            CheckpointError: the cells of the showers are not those of the model to go on from.
            DataError: what is given is not of the same showers.
        """
        self.recipe.check(self.showers)
        doubt_units(self.showers, "the showers to train on")
        if self.start is not None:
            _check_start(self.start, self.recipe, self.showers)
        if self.given is not None:
            _check_given(self.given, self.showers)

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Of all that it learns from, "" for what it has not; the data are read for it."""
        return {
            "data": data_fingerprint(self.showers),
            "teacher": "" if self.teacher is None else self.teacher.fingerprint,
            "given": "" if self.given is None else data_fingerprint(self.given),
            "start": "" if self.start is None else self.start.fingerprint,
        }

    def split(self, showers: Showers) -> tuple[Showers, Showers | None]:
        """Training and held-out showers of all of them, or of those that are given."""
        return hold_out(showers, self.recipe.training.validation_fraction, self.seed)

    def model(self, device: torch.device, fit_to: Showers | None, precision: str = "auto") -> Trainable:
        """The model at the beginning, on a device.

        Args:
            device: where it is trained.
            fit_to: training showers that its statistics are fitted to; None leaves that out, for a model
                whose state is loaded afterwards.
            precision: of its networks, see `Trainable.execute_on`.
        """
        torch.manual_seed(derived_seed(self.seed, "weights"))
        meshes = dict(sorted(self.showers.meshes.items()))
        if self.start is None:
            model = load_trainable_class(self.recipe.model)(next(iter(meshes.values())), self.recipe.settings)
            model.detectors, model.meshes = tuple(meshes), meshes
        else:
            model = self.start.network(device, precision)
            model.detectors = tuple(dict.fromkeys([*self.start.detectors, *meshes]))
            model.meshes = self.start.meshes | meshes
        if self.teacher is not None:
            for name, mesh in meshes.items():
                self.teacher.require_mesh(mesh, "the file of showers", name)
            model.use_teacher(self.teacher.network(device, precision).requires_grad_(False))
        if fit_to is not None:
            if self.start is None:
                model.fit(fit_to)
            else:
                model.adapt(fit_to)
        return model.execute_on(device, precision)

    def checkpoint(self, model: Trainable, provenance: dict[str, Any], metrics: dict[str, Any]) -> Checkpoint:
        """The checkpoint of the model as it is now."""
        made_by = provenance | {"showers": self.showers.provenance}
        for name, other in (("teacher", self.teacher), ("start", self.start)):
            if other is not None:
                made_by[name] = {
                    "fingerprint": other.fingerprint,
                    "model": other.model_name,
                    "provenance": other.provenance,
                }
        ranges = {} if self.start is None else {n: self.start.range_of(n) for n in self.start.detectors}
        conditions, described = self.showers.conditions, {}
        with suppress(DataError):  # of two detectors of one name
            described = described_detectors(self.showers)
        for name in sorted(self.showers.meshes):
            own = conditions[conditions.detector == name]
            ranges[name] = own.ranges() | _usual(own, described.get(name))
        return Checkpoint.from_model(
            model,
            self.recipe.model,
            next(iter(ranges.values())) if len(ranges) == 1 else merged_ranges(list(ranges.values())),
            valid_ranges=ranges if len(ranges) > 1 else {},
            recipe=self.recipe.to_dict(),
            provenance=made_by,
            seed=self.seed,
            metrics=metrics,
        )


def _usual(conditions: Conditions, detector: Detector | None) -> dict[str, Any]:
    """What a particle or direction that is not given stands for, where they vary: normal incidence."""
    ranges = conditions.ranges()
    (low, high), (first, last) = ranges["theta"], ranges["phi"]
    if detector is None or not low - MARGIN_RAD <= detector.normal_theta <= high + MARGIN_RAD:
        return {}
    codes, counts = np.unique(conditions.particle, return_counts=True)
    usual = {
        "particle": pdg_name(int(codes[counts.argmax()])),
        "theta": min(max(detector.normal_theta, low), high),
        "phi": min(max(0.0, first), last),
    }
    varies = len(codes) > 1 or high - low > MARGIN_RAD or last - first > MARGIN_RAD
    return {"usual": usual} if varies else {}


def _check_given(given: Showers, showers: Showers) -> None:
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


def _check_start(start: Checkpoint, recipe: Recipe, showers: Showers) -> None:
    """RecipeError unless the recipe is for this model, CheckpointError unless the showers' cells fit it."""
    model_class = load_trainable_class(recipe.model)
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
