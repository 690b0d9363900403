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

__all__ = ["AUGMENTATIONS", "Augmentation", "augment", "drawn_move"]


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

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with its showers, and what is given of them, moved.

        A symmetry that moves conditions, too, has an `apply` of its own, and its `draw` changes nothing: to
        showers generated at moved conditions nothing has to be done.
        """
        move = self.draw(batch, generator)
        given = None if batch.given is None else move(batch.given)
        return replace(batch, energies=move(batch.energies), given=given)


AUGMENTATIONS: Registry[type[Augmentation]] = Registry("augmentation", "caloforge.training.augmentations")
"""Augmentations by name, ``training.augment``."""


def drawn_move(batch: Batch, names: Sequence[str], generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """Random operations for n showers; the last acts first."""
    moves = [AUGMENTATIONS[name]().draw(batch, generator) for name in names]

    def move(energies: Tensor) -> Tensor:
        for one in reversed(moves):
            energies = one(energies)
        return energies

    return move


def augment(batch: Batch, names: Sequence[str], generator: torch.Generator) -> Batch:
    """The batch moved by a random operation of each name, the last first."""
    for name in reversed(names):
        batch = AUGMENTATIONS[name]().apply(batch, generator)
    return batch
