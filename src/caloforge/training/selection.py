"""Choosing weights by physics: a figure of merit of showers of the averaged generator, every so many steps.

The loss of an adversarial part says how far the other one is, not how good showers are.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloforge.data.showers import Showers
from caloforge.errors import CaloforgeError, MissingDependencyError, RecipeError
from caloforge.evaluation.merits import MERITS
from caloforge.models.base import GeneratorModel
from caloforge.models.batch import Batch
from caloforge.models.trainable import Trainable
from caloforge.runtime.seeds import derived_seed
from caloforge.training.recipe import SelectionSettings

__all__ = ["Measurement", "Selection"]

log = logging.getLogger(__name__)

COLLAPSED = 0.3
"""Showers that differ among one another by less than this share of what real ones do are of few modes."""
DIVERGED = 3.0
"""A figure so many times its best, at `IN_A_ROW` measurements, is that of a training that diverges."""
IN_A_ROW = 5


@dataclass(frozen=True)
class Measurement:
    """What was found after ``step`` steps.

    Attributes:
        value: of the figure of merit, ∞ where the showers are none to be judged.
        variety: mean distance of two generated showers over that of two real ones.
    """

    step: int
    value: float
    variety: float

    @property
    def collapsed(self) -> bool:
        return self.variety < COLLAPSED


class Selection:
    """Measures a model in training and knows which of its states was best.

    Args:
        settings: of the recipe.
        held_out: held-out showers, whose first ones are the reference.
        given: what is given of them, for models that refine showers.
        device: where the model is.
        seed: of the noise, which is the same at each measurement.
    """

    def __init__(
        self,
        settings: SelectionSettings,
        held_out: Showers,
        given: Showers | None,
        device: torch.device,
        seed: int,
    ) -> None:
        if len(held_out.meshes) > 1:
            raise RecipeError(
                "training.select judges showers on one mesh, those to train on have several; leave it out"
            )
        n = min(settings.showers, len(held_out))
        self.settings, self.device, self.seed = settings, device, seed
        chosen = held_out[:n]
        self.reference = Showers(chosen.energies, chosen.conditions, chosen.mesh)
        self.given = None if given is None else given[:n].energies
        self._variety = _variety(self.reference.energies)
        self.curve: list[Measurement] = []

    def due(self, step: int, last: bool) -> bool:
        """True after steps that are to be measured."""
        return last or step % self.settings.every == 0

    @property
    def best(self) -> Measurement | None:
        """The best measurement, None where there is none; collapsed ones only for want of others."""
        return min(self.curve, key=lambda m: (m.collapsed, m.value), default=None)

    def add(self, measurement: Measurement) -> bool:
        """Take a measurement in; True where it is the best so far. A warning says where it goes wrong."""
        before = self.trouble
        self.curve.append(measurement)
        if self.trouble and _kind(self.trouble) != _kind(before):
            log.warning("%s", self.trouble)
        return self.best is measurement

    @property
    def trouble(self) -> str:
        """In words, what is wrong with the training; "" for nothing."""
        if not self.curve or self.best is None:
            return ""
        last, by = self.curve[-1], self.settings.by
        kept = f"the best so far is that of step {self.best.step} ({by} {self.best.value:.4g})"
        begun = len(self.curve) >= IN_A_ROW or not all(m.collapsed for m in self.curve)
        if last.collapsed and begun:  # a generator that has learnt nothing yet has few modes, too
            return (
                f"collapsed: after step {last.step} generated showers differ from one another by "
                f"{100 * last.variety:.0f} % of what held-out ones do; {kept}. Try more critic steps, a "
                "gradient penalty or a smaller learning rate of the generator"
            )
        late = self.curve[-IN_A_ROW:]
        limit = DIVERGED * self.best.value
        if not math.isfinite(last.value) or (len(late) == IN_A_ROW and all(m.value > limit for m in late)):
            return (
                f"diverged: after step {last.step} {by} is {last.value:.4g}; {kept}. Try a smaller "
                "learning rate, a gradient penalty or training.clip"
            )
        return ""

    @torch.no_grad()
    def measure(self, model: Trainable, step: int) -> Measurement:
        """Generate at the conditions of the reference and judge; the model has the weights to be judged.

        Raises:
            RecipeError: the model makes no showers.
            MissingDependencyError: the figure of merit needs a package that is not installed.
        """
        energies = self._generated(model)
        if not np.isfinite(energies).all() or not energies.any():
            return Measurement(step, math.inf, 0.0)
        generated = Showers(energies, self.reference.conditions, self.reference.mesh)
        variety = _variety(energies) / max(self._variety, 1e-12)
        try:
            value = MERITS[self.settings.by](self.reference, generated, derived_seed(self.seed, "merit"))
        except MissingDependencyError:
            raise
        except CaloforgeError as error:  # of showers that are like none
            log.warning("after step %d the showers cannot be judged: %s", step, error)
            value = math.inf
        return Measurement(step, float(value), variety)

    def _generated(self, model: Trainable) -> NDArray[np.float32]:
        """Showers at the conditions of the reference, (N, *shape), of the same noise each time."""
        if not isinstance(model, GeneratorModel):
            raise RecipeError(f"training.select judges showers, and a {type(model).__name__} makes none")
        n = len(self.reference)
        noise = model.noise(n, torch.Generator().manual_seed(derived_seed(self.seed, "selection")))
        batch = Batch.with_energies(
            self.reference.energies, self.reference.conditions, model.detectors, given=self.given
        )
        made: list[Tensor] = []
        for i in range(0, n, model.block_size):
            rows = slice(i, i + model.block_size)
            z = {name: numbers[rows].to(self.device) for name, numbers in noise.items()}
            made.append(model.decode(z, batch[rows].to(self.device)).float().cpu())
        return torch.cat(made).numpy()

    def state(self) -> list[list[float]]:
        """What was measured, JSON-able."""
        return [[m.step, m.value, m.variety] for m in self.curve]

    def load_state(self, state: list[list[float | None]]) -> None:
        """Go on from `state`, in which ∞ became null."""
        self.curve = [
            Measurement(int(step or 0), math.inf if value is None else value, variety or 0.0)
            for step, value, variety in state
        ]

    def row(self, since: int) -> dict[str, Any]:
        """For the log: what was measured after step ``since``, the last, the best and what is wrong."""
        told: dict[str, Any] = {"curve": [measured for measured in self.state() if measured[0] > since]}
        if self.curve:
            told |= {"value": self.curve[-1].value, "variety": self.curve[-1].variety}
        return told | self.metrics()

    def metrics(self) -> dict[str, Any]:
        """The best measurement, and what is wrong in the end."""
        told: dict[str, Any] = {"by": self.settings.by}
        if self.best is not None:
            told |= {"best": self.best.value, "best_step": self.best.step}
        return told | ({"trouble": self.trouble} if self.trouble else {})


def _kind(trouble: str) -> str:
    return trouble.partition(":")[0]


def _variety(energies: NDArray[np.float32]) -> float:
    """Mean squared Hellinger distance of each shower to the next, 1 − Σ √(p·q) of shares of the energy."""
    cells = energies.reshape(len(energies), -1).astype(np.float64)
    roots = np.sqrt(cells / np.maximum(cells.sum(axis=1, keepdims=True), 1e-12))
    lit = cells.sum(axis=1) > 0
    near = np.einsum("nv,nv->n", roots[:-1], roots[1:])[lit[:-1] & lit[1:]]
    return float((1 - near).mean()) if len(near) else 0.0
