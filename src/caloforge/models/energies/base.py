"""What every model of layer energies is: a loss to train it and a map from noise to layer energies.

Legend: ``n`` showers, ``Z`` layers, ``C`` context numbers. Energies and thresholds are MeV, or in
another unit that all of them have.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

__all__ = ["LayerEnergyDensity", "LayerEnergyModel"]


class LayerEnergyModel(nn.Module, ABC):
    """Generator of layer energies (n, Z), given incident energies (n,) and a context (n, C)."""

    @property
    @abstractmethod
    def noise_size(self) -> int:
        """Normal numbers that one shower takes."""

    @abstractmethod
    def begin_fit(self) -> None:
        """Start collecting the statistics of the training split."""

    @abstractmethod
    def fit_batch(self, energies: Tensor, incident: Tensor, threshold: float) -> None:
        """Add layer energies (n, Z) and incident energies (n,)."""

    @abstractmethod
    def end_fit(self) -> None:
        """Keep the statistics collected since `begin_fit` as buffers."""

    @abstractmethod
    def loss(
        self,
        energies: Tensor,
        incident: Tensor,
        context: Tensor,
        threshold: float,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Loss of each shower, (n,), given its layer energies (n, Z); all random numbers of ``generator``."""

    @abstractmethod
    def sample(self, noise: Tensor, incident: Tensor, context: Tensor, threshold: float) -> Tensor:
        """Layer energies (n, Z) of normal noise (n, noise_size); none between 0 and the threshold."""


class LayerEnergyDensity(LayerEnergyModel):
    """A model that knows the density of layer energies; its loss is the negative log-likelihood."""

    @abstractmethod
    def log_prob(
        self, energies: Tensor, incident: Tensor, context: Tensor, threshold: float, uniform: Tensor
    ) -> Tensor:
        """log p of layer energies (n, Z), (n,); ``uniform`` (n, Z) places the empty ones."""

    def loss(
        self,
        energies: Tensor,
        incident: Tensor,
        context: Tensor,
        threshold: float,
        generator: torch.Generator | None,
    ) -> Tensor:
        uniform = torch.rand(energies.shape, generator=generator, device=energies.device)
        return -self.log_prob(energies, incident, context, threshold, uniform)
