"""Settings of the classifiers, and presets of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, ValidationError

from caloforge.errors import RecipeError
from caloforge.evaluation.classifiers.inputs import INPUTS
from caloforge.registry import Registry
from caloforge.settings import Settings, explain

__all__ = ["PRESETS", "ClassifierSettings", "TreeSettings", "chosen_classifiers", "classifier_settings"]


class TreeSettings(Settings):
    """Of boosted trees: `HistGradientBoostingClassifier` of scikit-learn."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    most: PositiveInt = 600
    """Trees; fewer where a tenth of the training showers, set aside, shows no gain from 20 more."""
    leaves: int = Field(default=15, ge=2)
    """Of a tree."""
    learning_rate: PositiveFloat = 0.08
    """What each tree counts."""
    features: float = Field(default=0.3, gt=0, le=1)
    """Share of the inputs, drawn anew, that a node chooses from."""
    shrinkage: NonNegativeFloat = 1.0
    """Pulls the values of the leaves to zero (L2)."""


class ClassifierSettings(Settings):
    """Settings of the classifiers; the defaults are the challenge's.

    Raises:
        RecipeError: a setting is unknown or not allowed.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    which: tuple[str, ...] = ("low", "high")
    """Classifiers that are trained where none are named."""
    hidden: PositiveInt = 2048
    """Neurons in each hidden layer of a dense network; LeakyReLU with slope 0.01 follows each."""
    layers: PositiveInt = 3
    """Hidden layers of a dense network."""
    widths: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (32, 64, 64, 128)
    """Channels in the four stages of a ResNet-18."""
    epochs: PositiveInt = 50
    """Of Adam; an epoch is cut into batches of nearly equal size, at most ``batch_size``."""
    batch_size: int = Field(default=1000, ge=2)
    learning_rate: PositiveFloat = 2e-4
    weight_decay: NonNegativeFloat = 0.0
    """AdamW takes the place of Adam where it is above 0."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of a dense network's hidden neurons that are left out of a step."""
    patience: PositiveInt | None = None
    """Epochs without a better one after which a training ends; None goes through all epochs."""
    trees: TreeSettings = Field(default_factory=TreeSettings)
    """Of ``boosted``, which is no network."""
    most: int | None = Field(default=None, ge=10)
    """Showers of a class; of more so many are drawn."""
    curve: int = Field(default=0, ge=0, le=8)
    """Also train on a half, a quarter, … of the showers, so many times, to see where the AUC goes."""
    repeats: PositiveInt = 10
    """Independent trainings, each with its own split, weights and order."""
    standardise: bool = False
    """Shift and scale the inputs, give cells a second time as logarithms and add their sums, see `Batches`
    and `add_sums`; not the challenge's definition, but far stronger on few showers."""
    floor: bool = False
    """Also train on two halves of the reference, which nothing should tell apart."""
    threads: PositiveInt | None = None
    """CPU threads in one training; None for ``OMP_NUM_THREADS``, else 1. The same seed and threads give the
    same numbers however many cores there are: trainings go on side by side."""
    memory_limit_gib: NonNegativeFloat = 4.0
    """Inputs beyond it lie in a temporary file; standardised ones are made when needed."""
    calibration_floor: float | None = 1e-6
    """Least calibrated probability; None takes 1/(n + 2) of n calibrating showers, since fewer cannot tell
    less, and a JSD of small samples then stays a sensible number."""
    special: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings that differ for single classifiers: ``{"resnet": {"epochs": 10}}``."""
    preset: str = ""
    """Name of the preset, where it is one."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise RecipeError(explain(error, "settings of a classifier")) from error
        for name in self.special:
            self.of(name)

    def replace(self, **changes: Any) -> ClassifierSettings:
        """Settings with other values."""
        return ClassifierSettings(**self.model_dump() | changes)

    def of(self, name: str) -> ClassifierSettings:
        """The settings of one classifier: these, with what ``special`` says of it; RecipeError if unknown."""
        INPUTS[name]  # an error where there is none of this name
        changes = self.special.get(name, {})
        if {"special", "preset", "which"} & changes.keys():
            raise RecipeError(f"the settings of the classifier {name!r} cannot hold special, preset or which")
        try:
            return self.replace(**changes, special={})
        except RecipeError as error:
            raise RecipeError(f"the classifier {name!r}: {error}") from error


def classifier_settings(choice: str | ClassifierSettings) -> ClassifierSettings:
    """The settings of a preset by name (of several, the first), or those given; RecipeError if unknown."""
    return _presets(choice)[0]


def chosen_classifiers(
    choice: str | ClassifierSettings, which: Sequence[str] | None = None
) -> dict[str, ClassifierSettings]:
    """The classifiers to train and the settings of each.

    Args:
        choice: a preset, several with commas between them, ``"none"``, or settings.
        which: names of classifiers; by default those of all the presets. A classifier that is none of the
            presets' own has the settings of the preset of its name, if there is one, else the first preset's.

    Raises:
        RecipeError: a preset or classifier is unknown.
    """
    if choice == "none":
        return {}
    presets = _presets(choice)
    names = dict.fromkeys(which if which is not None else [name for p in presets for name in p.which])
    known = PRESETS.names()

    def settings(name: str) -> ClassifierSettings:
        for preset in presets:
            if name in preset.which or name in preset.special:
                return preset
        return PRESETS[name] if name in known else presets[0]

    return {name: settings(name) for name in names}


def _presets(choice: str | ClassifierSettings) -> list[ClassifierSettings]:
    if isinstance(choice, ClassifierSettings):
        return [choice]
    return [PRESETS[name.strip()] for name in choice.split(",")]


PRESETS: Registry[ClassifierSettings] = Registry(
    "classifier preset", "caloforge.evaluation.classifiers.presets"
)
"""Settings by name; a new one is a new file beside `quick` and `calochallenge`."""
