"""Random symmetry operations on batches: what makes new, equally probable showers from those at hand.

A new one is a new file here, or a class elsewhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from caloforge.registry import Registry

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from caloforge.data.showers import Showers
    from caloforge.models.base import Batch

__all__ = ["AUGMENTATIONS", "Augmentation", "augment"]


class Augmentation(ABC):
    """A symmetry of showers, of which each shower of a batch gets a random operation of its own."""

    @abstractmethod
    def check(self, showers: Showers) -> None:
        """RecipeError unless the showers have the symmetry."""

    @abstractmethod
    def draw(self, batch: Batch, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
        """The operations for n showers, as a function that moves energies (n, \\*shape) and changes none.

        It is applied to ``batch.energies`` and to ``batch.given``, which may be on another mesh.
        """


AUGMENTATIONS: Registry[type[Augmentation]] = Registry("augmentation", "caloforge.training.augmentations")
"""Augmentations by name, ``training.augment``."""


def augment(batch: Batch, names: Sequence[str], generator: torch.Generator) -> Batch:
    """The batch with its showers moved; they are drawn in the order of their names, the last acts first."""
    moves = [AUGMENTATIONS[name]().draw(batch, generator) for name in names]
    energies, given = batch.energies, batch.given
    for move in reversed(moves):
        energies = move(energies)
        given = None if given is None else move(given)
    return replace(batch, energies=energies, given=given) if moves else batch
