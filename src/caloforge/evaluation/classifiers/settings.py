"""Settings of the classifiers, and the two presets: the published definitions and a quick look."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from caloforge.errors import RecipeError
from caloforge.evaluation.classifiers.inputs import check_names

__all__ = ["PRESETS", "ClassifierSettings", "classifier_settings"]


@dataclass(frozen=True)
class ClassifierSettings:
    """Settings of the classifiers; the defaults are the challenge's.

    Attributes:
        hidden, layers: neurons in each hidden layer of a dense network and how many layers there are;
            LeakyReLU with slope 0.01 follows each.
        widths: channels in the four stages of a ResNet-18.
        epochs, batch_size, learning_rate, weight_decay: of Adam (AdamW where ``weight_decay`` > 0); an epoch
            is cut into batches of nearly equal size, at most ``batch_size``.
        repeats: independent trainings, each with its own split, weights and order.
        standardise: shift and scale the inputs, give cells a second time as logarithms and add their sums,
            see `Batches` and `add_sums`; not the challenge's definition, but far stronger on few showers.
        floor: also train on two halves of the reference, which nothing should tell apart.
        threads: CPU threads of torch; None leaves them as they are. The same seed and threads give the same
            numbers; with one thread however many cores there are.
        memory_limit_gib: inputs beyond it lie in a temporary file; standardised ones are made when needed.
        calibration_floor: least calibrated probability; None takes 1/(n + 2) of n calibrating showers, since
            fewer cannot tell less, and a JSD of small samples then stays a sensible number.
        special: settings that differ for single classifiers: ``{"resnet": {"epochs": 10}}``.
        preset: name of the preset, filled in by `classifier_settings`.
    """

    hidden: int = 2048
    layers: int = 3
    widths: tuple[int, int, int, int] = (32, 64, 64, 128)
    epochs: int = 50
    batch_size: int = 1000
    learning_rate: float = 2e-4
    weight_decay: float = 0.0
    repeats: int = 10
    standardise: bool = False
    floor: bool = False
    threads: int | None = None
    memory_limit_gib: float = 4.0
    calibration_floor: float | None = 1e-6
    special: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    preset: str = ""

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "epochs", "repeats", "learning_rate"):
            if getattr(self, name) <= 0:
                raise RecipeError(f"{name} of a classifier must be positive, got {getattr(self, name)}")
        if self.batch_size < 2:
            raise RecipeError(f"batch_size of a classifier must be at least 2, got {self.batch_size}")
        if len(self.widths) != 4 or min(self.widths) < 1:
            raise RecipeError(f"widths of a ResNet-18 are four positive numbers, got {self.widths}")
        if self.threads is not None and self.threads < 1:
            raise RecipeError(f"threads of a classifier must be at least 1, got {self.threads}")
        if self.weight_decay < 0 or self.memory_limit_gib < 0:
            raise RecipeError("weight_decay and memory_limit_gib of a classifier must not be negative")
        for name in self.special:
            self.of(name)

    def of(self, name: str) -> ClassifierSettings:
        """The settings of one classifier: these, with what ``special`` says of it; RecipeError if unknown."""
        check_names((name,))
        changes = self.special.get(name, {})
        known = {f.name for f in dataclasses.fields(self)} - {"special", "preset"}
        if not changes.keys() <= known:
            raise RecipeError(
                f"unknown settings {', '.join(sorted(changes.keys() - known))} of the classifier {name!r}; "
                f"expected some of {', '.join(sorted(known))}"
            )
        return dataclasses.replace(self, **changes, special={})


_ON_IMAGES = {"batch_size": 50, "learning_rate": 1e-3, "repeats": 1, "threads": None}
PRESETS: dict[str, ClassifierSettings] = {
    "calochallenge": ClassifierSettings(
        special={"c2st": {"widths": (64, 128, 256, 512), "epochs": 100}}, preset="calochallenge"
    ),
    "quick": ClassifierSettings(
        hidden=128,
        widths=(8, 16, 16, 32),
        epochs=20,
        batch_size=100,
        learning_rate=3e-4,
        repeats=3,
        standardise=True,
        threads=1,
        calibration_floor=None,
        special={
            "low": {"epochs": 8},
            "low-normed": {"epochs": 8},
            "resnet": _ON_IMAGES | {"epochs": 10},
            "c2st": _ON_IMAGES | {"epochs": 20},
        },
        preset="quick",
    ),
}
"""``calochallenge``: the published networks. Where the sources are silent the ResNets are trained like the
dense networks; ``c2st`` is the usual ResNet-18, 100 epochs as in the LHCb study (arXiv:1812.01319).
``quick``: for some thousand showers on a CPU."""


def classifier_settings(choice: str | ClassifierSettings) -> ClassifierSettings:
    """The settings of a preset by name, or those given; RecipeError for an unknown name."""
    if isinstance(choice, ClassifierSettings):
        return choice
    if choice not in PRESETS:
        raise RecipeError(f"unknown classifier preset {choice!r}; expected {', '.join(PRESETS)} or none")
    return PRESETS[choice]
