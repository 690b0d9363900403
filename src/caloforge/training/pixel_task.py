"""What is trained on events of a pixel detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caloforge.data.fingerprint import events_fingerprint
from caloforge.data.pixels import PixelEvents
from caloforge.detector.mesh import Mesh
from caloforge.detector.mesh.pixel import PixelMesh
from caloforge.errors import DataError, RecipeError
from caloforge.models.pixels.base import PixelModel
from caloforge.models.trainable import load_trainable_class
from caloforge.training.loader import EventLoader
from caloforge.training.task import TrainingTask

__all__ = ["PixelTask"]


class PixelTask(TrainingTask[PixelEvents]):
    """A training on pixel events."""

    what = "events"

    def check(self) -> None:
        recipe, model = self.recipe, load_trainable_class(self.recipe.model)
        detector, data = self.sample.detector, recipe.data
        if not issubclass(model, PixelModel):
            raise RecipeError(
                f"a {model.__name__} is trained on showers, not on events of {detector.name}; take a recipe "
                "of a pixel model (caloforge recipes lists them)"
            )
        if data.detectors and detector.name not in data.detectors:
            raise RecipeError(
                f"the recipe is for detectors {', '.join(data.detectors)}, the events are of "
                f"{detector.name}; change data.detectors in the recipe if that is meant"
            )
        if not len(self.sample):
            raise DataError("there are no events to train on")
        if recipe.training.augment or recipe.training.select is not None:
            raise RecipeError("training.augment and training.select are of showers only; leave them out")
        if self.start is not None:
            raise RecipeError("a model of pixel events cannot be adapted; train it on all events instead")
        unknown = self.sample.conditions.unknown_rates
        if model.needs_rates and len(unknown):
            raise RecipeError(
                f"the rates of {len(unknown)} events are not known, the first is event {unknown[0]}, and a "
                f"{model.__name__} learns what they do; leave these events out"
            )

    @property
    def meshes(self) -> dict[str, Mesh]:
        return {self.sample.detector.name: PixelMesh(self.sample.detector)}

    def ranges(self) -> dict[str, dict[str, Any]]:
        name = self.sample.detector.name
        return {name: {"rates": self.sample.conditions.ranges(), "detector": [name]}}

    def fingerprint(self, sample: PixelEvents) -> str:
        return events_fingerprint(sample)

    def loader(
        self, sample: PixelEvents, given: PixelEvents | None, detectors: Sequence[str], **how: Any
    ) -> EventLoader:
        return EventLoader(sample, **how)
