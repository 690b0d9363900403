"""What is trained on what: a recipe, its sample, and the trained models that it learns or goes on from.

Showers and pixel events have a task each, which knows what is told of them, how they are loaded, and for
which conditions a model of them is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch

from caloforge.checkpoint.before import ADAPTED_TO
from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.data.conditions import Conditions, merged_ranges
from caloforge.data.described import described_detectors
from caloforge.data.event_list import without_lists
from caloforge.data.fingerprint import data_fingerprint
from caloforge.data.operations import doubt_units
from caloforge.data.particles import pdg_name
from caloforge.data.pixels import PixelEvents
from caloforge.data.showers import Showers
from caloforge.detector.detector import Detector
from caloforge.detector.mesh import Mesh
from caloforge.errors import CheckpointError, DataError, RecipeError
from caloforge.models.names import current_name
from caloforge.models.trainable import Trainable, load_trainable_class
from caloforge.runtime.seeds import derived_seed
from caloforge.training.loader import Loader, ShowerLoader, hold_out
from caloforge.training.recipe import Recipe

__all__ = ["ShowerTask", "TrainingTask"]

S = TypeVar("S", bound=Showers | PixelEvents)
MARGIN_RAD = 1e-3
"""A sample of angles comes so near to those at which it was drawn to begin."""


@dataclass(frozen=True)
class TrainingTask(ABC, Generic[S]):
    """One training, apart from where it runs; arguments are those of `caloforge.training.train`."""

    recipe: Recipe
    sample: S
    seed: int
    teacher: Checkpoint | None = None
    given: S | None = None
    start: Checkpoint | None = None

    what: ClassVar[str]
    """What the sample is made of, in the plural."""

    @abstractmethod
    def check(self) -> None:
        """Make sure that everything fits together.

        Raises:
            RecipeError: the recipe is not for this sample, or not that of the model to go on from.
            CheckpointError: the cells of the sample are not those of the model to go on from.
            DataError: what is given is not of the same showers.
        """

    @property
    @abstractmethod
    def meshes(self) -> dict[str, Mesh]:
        """Cells of each detector, by name in order."""

    @abstractmethod
    def ranges(self) -> dict[str, dict[str, Any]]:
        """Conditions in each detector, which the trained model is valid for."""

    @abstractmethod
    def fingerprint(self, sample: S) -> str:
        """Differs where anything of the sample does; it is read for it."""

    @abstractmethod
    def loader(self, sample: S, given: S | None, detectors: Sequence[str], **how: Any) -> Loader[Any, Any]:
        """Batches of a part of the sample."""

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Of all that it learns from, "" for what it has not; the data are read for it."""
        return {
            "data": self.fingerprint(self.sample),
            "teacher": "" if self.teacher is None else self.teacher.fingerprint,
            "given": "" if self.given is None else self.fingerprint(self.given),
            "start": "" if self.start is None else self.start.fingerprint,
        }

    def split(self, sample: S) -> tuple[S, S | None]:
        """Training and held-out part of all of the sample, or of what is given."""
        return hold_out(sample, self.recipe.training.validation_fraction, self.seed)

    def model(self, device: torch.device, fit_to: S | None, precision: str = "auto") -> Trainable:
        """The model at the beginning, on a device.

        Args:
            device: where it is trained.
            fit_to: training part that its statistics are fitted to; None leaves that out, for a model
                whose state is loaded afterwards.
            precision: of its networks, see `Trainable.execute_on`.
        """
        torch.manual_seed(derived_seed(self.seed, "weights"))
        meshes, start = self.meshes, self.start
        if start is None:
            model = load_trainable_class(self.recipe.model)(next(iter(meshes.values())), self.recipe.settings)
            model.detectors, model.meshes = tuple(meshes), meshes
        else:
            model = start.network(device, precision)
            model.detectors = tuple(dict.fromkeys([*start.detectors, *meshes]))
            model.meshes = start.meshes | meshes
        if self.teacher is not None:
            for name, mesh in meshes.items():
                self.teacher.require_mesh(mesh, "what is trained on", name)
            model.use_teacher(self.teacher.network(device, precision).requires_grad_(False))
        if fit_to is not None:
            if start is None:
                model.fit(fit_to)
            else:
                model.adapt(fit_to)
        return model.execute_on(device, precision)

    def checkpoint(self, model: Trainable, provenance: dict[str, Any], metrics: dict[str, Any]) -> Checkpoint:
        """The checkpoint of the model as it is now."""
        made_by = provenance | {"showers": without_lists(self.sample.provenance)}
        for name, other in (("teacher", self.teacher), ("start", self.start)):
            if other is not None:
                made_by[name] = {
                    "fingerprint": other.fingerprint,
                    "model": other.model_name,
                    "provenance": other.provenance,
                }
        ranges: dict[str, dict[str, Any]] = {}
        if self.start is not None:
            made_by[ADAPTED_TO] = list(self.meshes)
            ranges = {name: self.start.range_of(name) for name in self.start.detectors}
        ranges |= self.ranges()
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


class ShowerTask(TrainingTask[Showers]):
    """A training on showers."""

    what = "showers"

    def check(self) -> None:
        self.recipe.check(self.sample)
        doubt_units(self.sample, "the showers to train on")
        if self.start is not None:
            _check_start(self.start, self.recipe, self.sample)
        if self.given is not None:
            _check_given(self.given, self.sample)

    @property
    def meshes(self) -> dict[str, Mesh]:
        return dict(sorted(self.sample.meshes.items()))

    def ranges(self) -> dict[str, dict[str, Any]]:
        conditions, described = self.sample.conditions, {}
        with suppress(DataError):  # of two detectors of one name
            described = described_detectors(self.sample)
        found = {}
        for name in self.meshes:
            own = conditions[conditions.detector == name]
            found[name] = own.ranges() | _usual(own, described.get(name))
        return found

    def fingerprint(self, sample: Showers) -> str:
        return data_fingerprint(sample)

    def loader(
        self, sample: Showers, given: Showers | None, detectors: Sequence[str], **how: Any
    ) -> ShowerLoader:
        return ShowerLoader(sample, detectors=detectors, given=given, **how)


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
