"""How a transformer of layer energies draws one number; a new head is a new file here."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from caloforge.models.energies.base import LayerEnergySettings
from caloforge.registry import Registry

__all__ = ["HEADS", "Head"]


class Head(nn.Module, ABC):
    """How one number is distributed, given a state (…, W).

    Args:
        settings: those of the transformer; W is ``hidden``.
    """

    @abstractmethod
    def __init__(self, settings: LayerEnergySettings) -> None:
        super().__init__()

    @abstractmethod
    def loss(self, z: Tensor, states: Tensor, generator: torch.Generator | None) -> Tensor:
        """Loss of numbers z (n, Z), given states (n, Z, W): (n, Z)."""

    @abstractmethod
    def sample(self, noise: Tensor, states: Tensor) -> Tensor:
        """Numbers (n,) of standard normal noise (n,), given states (n, W)."""


HEADS: Registry[type[Head]] = Registry("head", "caloforge.models.energies.heads")
"""Heads of the transformer of layer energies by name, ``head`` of its settings."""
