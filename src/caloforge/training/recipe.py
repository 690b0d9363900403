"""Recipes: a short TOML file that says which model is trained how.

description = "one line"
model = "flow.inductive:InductiveLayerFlow"   # "module:Class", see load_trainable_class

[settings]                                    # the model's own settings
hidden = 128

[training]                                    # TrainingSettings
epochs = 100
learning_rate = 1e-3

[training.parts.critic]                       # PartSettings: what differs for one part of the model
learning_rate = 2e-4

[data]                                        # DataSettings: what showers the recipe is for
meshes = ["cylinder"]
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, ValidationError, field_validator, model_validator

from caloforge.data.particles import pdg_name
from caloforge.data.showers import Showers
from caloforge.errors import RecipeError
from caloforge.evaluation.merits import MERITS
from caloforge.models.names import current_names
from caloforge.registry import suggestion
from caloforge.runtime.files import read_toml
from caloforge.runtime.structured import require_shallow
from caloforge.settings import Settings, explain, with_overrides
from caloforge.training.augmentations import AUGMENTATIONS
from caloforge.training.schedules import SCHEDULES

__all__ = ["DataSettings", "PartSettings", "Recipe", "SelectionSettings", "TrainingSettings"]

RECIPES = Path(__file__).resolve().parents[1] / "recipes"


class PartSettings(Settings):
    """How one part of a model is optimised (AdamW); ``[training.parts.<name>]`` gives only what differs.

    Attributes:
        learning_rate: largest learning rate.
        weight_decay: AdamW's decoupled weight decay.
        betas: AdamW's decay rates of the first and second moment.
        epsilon: what AdamW adds to the root of the second.
        schedule: "one-cycle" (up from 1/25 and down to 1e-4 of the learning rate, both by a cosine), "cosine"
            (linear warm-up, cosine to zero), "constant" (linear warm-up) or another of `SCHEDULES`.
        warmup: fraction of the steps that warm up; by default 0.3 of one-cycle and 0.02 otherwise.
        ema: decay of the exponential moving average of the weights, which is what is validated and kept;
            0 keeps the weights themselves.
        ema_after: updates after which the average begins; until then it is the weights themselves.
        clip: largest norm of the gradient; None for no clipping.
        patience: epochs without a better validation loss after which the part's training stops; None: never.
        keep: "best" keeps the weights with the least validation loss, "last" the last (adversarial parts).
        every: the part is trained in every so many-th step.
        repeat: updates per step, on the same showers with new random numbers.
        update: what is learnt: "all" weights, "tables" (biases and scales), "low-rank" (these, and matrices
            by few rows and columns), or "best", one after the other as long as held-out showers gain, see
            `UPDATES`.
        rank: of the low-rank ones.
    """

    largest_number: ClassVar[int] = 1_000_000_000

    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = Field(1e-8, gt=0)
    schedule: str = "one-cycle"
    warmup: float | None = Field(None, ge=0, le=1)
    ema: float = Field(0.999, ge=0, lt=1)
    ema_after: int = Field(0, ge=0)
    clip: float | None = Field(None, gt=0)
    patience: int | None = Field(None, ge=1)
    keep: Literal["best", "last"] = "best"
    every: int = Field(1, ge=1)
    repeat: int = Field(1, ge=1)
    update: Literal["all", "tables", "low-rank", "best"] = "all"
    rank: int = Field(8, ge=1)

    @field_validator("schedule")
    @classmethod
    def _known_schedule(cls, name: str) -> str:
        SCHEDULES[name]
        return name


class SelectionSettings(Settings):
    """``[training.select]``: which weights are kept, those of all parts at the best of some measurements.

    Attributes:
        by: figure of merit, "energy-chi2" (χ² of the total energy in bins of the incident energy),
            "separation" (mean separation power of all histograms), "auc" (of a quick classifier) or another
            of `MERITS`.
        every: steps between measurements; the last step is measured, too.
        showers: how many of the held-out showers' conditions are generated.
    """

    by: str = "separation"
    every: int = Field(500, ge=1)
    showers: int = Field(1000, ge=20)

    @field_validator("by")
    @classmethod
    def _known(cls, name: str) -> str:
        MERITS[name]
        return name


class TrainingSettings(PartSettings):
    """The ``[training]`` table: the defaults of all parts and what is common to them.

    Attributes:
        epochs: passes over the training showers; either this or ``steps`` must be given.
        steps: batches to train on; 0 for models that are complete when they are fitted.
        batch_size: showers of a step, over all processes.
        scale: how many times larger batches are, for devices that need large ones; see `scaled`.
        precision: "bf16" for bfloat16 autocast of all that is in the losses; "float32" and "auto" leave it to
            the model's settings.
        validation_fraction: share of the showers that is held out; 0 for none.
        augment: "rotate_phi" turns each shower by a random number of φ bins, "reflect_phi" mirrors half of
            them; both only on cylinders at normal incidence. "turn_square" gives each shower in a square box,
            with its direction and impact point, one of eight symmetries. Or others of `AUGMENTATIONS`.
        select: which weights are kept, by a figure of merit of showers; without it, see ``keep``.
        parts: what differs for single parts.
    """

    epochs: int | None = Field(None, ge=1)
    steps: int | None = Field(None, ge=0)
    batch_size: int = Field(128, ge=1)
    scale: int = Field(1, ge=1)
    precision: Literal["auto", "float32", "bf16"] = "auto"
    validation_fraction: float = Field(0.1, ge=0, lt=1)
    augment: tuple[str, ...] = ()
    select: SelectionSettings | None = None
    parts: dict[str, PartSettings] = Field({})

    @field_validator("augment")
    @classmethod
    def _known_augmentations(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            AUGMENTATIONS[name]
        return names

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("exactly one of epochs and steps must be given")
        return self

    @model_validator(mode="after")
    def _one_choice_of_weights(self) -> Self:
        if self.select is None:
            return self
        if self.validation_fraction == 0:
            raise ValueError(
                "select judges held-out showers; give a validation_fraction, or leave select out"
            )
        parts: list[PartSettings] = [self, *self.parts.values()]
        if any(part.patience is not None for part in parts):
            raise ValueError("select and patience would both decide which weights are kept; leave one out")
        return self

    @model_validator(mode="after")
    def _best_by_showers(self) -> Self:
        parts: list[PartSettings] = [self, *self.parts.values()]
        ways = [part.update for part in parts]
        if "best" in ways and (self.select is not None or self.validation_fraction == 0):
            raise ValueError(
                "the best update is found by the loss of held-out showers; give a validation_fraction and no "
                "select, or another update"
            )
        return self

    def scaled(self) -> Self:
        """The settings of a training with ``scale`` times as many showers a step, and as many fewer steps.

        Learning rates and weight decay are multiplied by √scale, ε of Adam is divided by it, and averages
        (β of Adam, EMA) are over, and begin after, as many showers as before (arXiv:2205.10287, 2307.13813).
        With a scale of 1 they are what they are.
        """
        if self.scale == 1:
            return self
        k = self.scale

        def rescaled(part: PartSettings) -> dict[str, Any]:
            return {
                "learning_rate": math.sqrt(k) * part.learning_rate,
                "weight_decay": math.sqrt(k) * part.weight_decay,
                "betas": tuple(beta**k for beta in part.betas),
                "epsilon": part.epsilon / math.sqrt(k),
                "ema": part.ema**k,
                "ema_after": -(-part.ema_after // k),
            }

        changed = rescaled(self) | {"batch_size": k * self.batch_size, "scale": 1}
        parts = {name: self.part(name) for name in self.parts}
        changed["parts"] = {name: part.model_copy(update=rescaled(part)) for name, part in parts.items()}
        if self.steps is not None:
            changed["steps"] = -(-self.steps // k)
        if self.select is not None:
            changed["select"] = self.select.model_copy(update={"every": -(-self.select.every // k)})
        return self.model_copy(update=changed)

    def part(self, name: str) -> PartSettings:
        """Settings of a part: its own where given, otherwise the common ones."""
        common = {key: getattr(self, key) for key in PartSettings.model_fields}
        own = self.parts.get(name)
        given = {} if own is None else {key: getattr(own, key) for key in own.model_fields_set}
        return PartSettings(**(common | given))


class DataSettings(Settings):
    """The ``[data]`` table: what the recipe is for; empty means any.

    Attributes:
        meshes: kinds of mesh.
        particles: incident particles.
        detectors: detectors, by name.
    """

    meshes: tuple[str, ...] = ()
    particles: tuple[str, ...] = ()
    detectors: tuple[str, ...] = ()


class Recipe(Settings):
    """A model, its settings and how it is trained; read it with `Recipe.load`."""

    model: str
    description: str = ""
    settings: dict[str, Any] = Field({})
    training: TrainingSettings
    data: DataSettings = DataSettings()

    @model_validator(mode="before")
    @classmethod
    def _current_names(cls, given: Any) -> Any:
        return current_names(given)

    @staticmethod
    def names() -> list[str]:
        """Names of the recipes that come with caloforge."""
        return sorted(path.stem for path in RECIPES.glob("*.toml"))

    @classmethod
    def load(
        cls,
        source: str | os.PathLike[str] | Mapping[str, Any] | Recipe,
        overrides: Mapping[str, Any] | None = None,
    ) -> Recipe:
        """Read a recipe by name, path or mapping, and change single values.

        Args:
            source: a name of `names`, the path of a TOML file, or what such a file holds.
            overrides: values by dotted key, e.g. ``{"training.epochs": 5}``; None removes a key.

        Raises:
            RecipeError: there is no such recipe, or it holds an unknown key or an illegal value.
        """
        table, where = _read(source)
        try:
            require_shallow([table, *(overrides or {}).values()])
        except ValueError as error:
            raise RecipeError(f"{where}: {error}") from None
        table = with_overrides(table, overrides or {})
        try:
            recipe = cls.model_validate(table)
        except ValidationError as error:
            raise RecipeError(explain(error, where)) from None
        return recipe._with_valid_settings(where)

    def _with_valid_settings(self, where: str) -> Recipe:
        from caloforge.models.trainable import load_trainable_class  # torch is needed only from here on

        settings_class = load_trainable_class(self.model).Settings
        try:
            settings_class.model_validate(self.settings)
        except ValidationError as error:
            raise RecipeError(explain(error, where, "settings")) from None
        return self

    def check(self, showers: Showers) -> None:
        """RecipeError unless the showers are what the recipe is for."""
        from caloforge.models.trainable import load_trainable_class

        conditions, meshes = showers.conditions, set(showers.meshes.values())
        model = load_trainable_class(self.model)
        if "pixel" in model.mesh_kinds:
            raise RecipeError(
                f"a {model.__name__} is trained on events of a pixel detector, not on showers (caloforge "
                "simulate belle2-pxd makes some)"
            )
        if len(meshes) > 1 and not model.joint:
            raise RecipeError(
                f"a {model.__name__} is for one mesh, but the detectors {', '.join(showers.meshes)} have "
                "cells of other sizes; train it on one of them, or take a recipe for many detectors"
            )
        found = {
            "meshes": sorted({mesh.kind for mesh in meshes}),
            "particles": [pdg_name(code) for code in np.unique(conditions.particle)],
            "detectors": [str(name) for name in np.unique(conditions.detector)],
        }
        for key, values in found.items():
            wanted = getattr(self.data, key)
            strange = [value for value in values if wanted and value not in wanted]
            if strange:
                raise RecipeError(
                    f"the recipe is for {key} {', '.join(wanted)}, the showers have {', '.join(strange)}; "
                    f"change data.{key} in the recipe if that is meant"
                )
        for name in self.training.augment:
            AUGMENTATIONS[name]().check(showers)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able form that `load` reads; only what was given, so that it stays short."""
        return self.model_dump(mode="json", exclude_unset=True)


def _read(source: str | os.PathLike[str] | Mapping[str, Any] | Recipe) -> tuple[dict[str, Any], str]:
    if isinstance(source, Recipe):
        return source.to_dict(), "recipe"
    if isinstance(source, Mapping):
        return dict(source), "recipe"
    path = Path(source)
    if path.suffix != ".toml" and os.fspath(source) == path.name:
        if path.name not in Recipe.names():
            raise RecipeError(
                f"no recipe {path.name!r}{suggestion(path.name, Recipe.names())}; "
                f"known are {', '.join(Recipe.names()) or 'none'}, or give the path of a .toml file"
            )
        path = RECIPES / f"{path.name}.toml"
    return read_toml(path, error=RecipeError), str(path)
