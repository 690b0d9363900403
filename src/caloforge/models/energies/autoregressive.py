"""Layer energies by an autoregressive flow over how the energy left is split, layer after layer.

The coordinates are logits of CaloFlow's ratios, u_0 = ΣE/(c·E_inc) and u_{n+1} = E_n/Σ_{k≥n} E_k
(arXiv:2106.05285), standardised.

Legend: ``n`` showers, ``Z`` layers, ``C`` context numbers. Energies are MeV.
"""

from __future__ import annotations

import torch
from torch import Tensor

from caloforge.models.coordinates import (
    RunningMoments,
    cut_noise,
    energy_logits,
    fill_below,
    layer_energies_from_logits,
)
from caloforge.models.energies.base import ENERGIES, LayerEnergyDensity, LayerEnergySettings
from caloforge.models.networks.autoregressive.flow import AutoregressiveFlow

__all__ = ["AutoregressiveSettings", "LayerEnergyFlow"]


class AutoregressiveSettings(LayerEnergySettings):
    """See `LayerEnergySettings`."""

    kind: str = "autoregressive"


@ENERGIES.add("autoregressive")
class LayerEnergyFlow(LayerEnergyDensity):
    """Density and sampler of layer energies (n, Z), MeV."""

    Settings = AutoregressiveSettings
    mean: Tensor
    std: Tensor

    def __init__(self, settings: AutoregressiveSettings, layers: int, context: int) -> None:
        super().__init__(settings, layers, context)
        s = self.settings = settings
        self.layers = layers
        self.flow = AutoregressiveFlow(
            layers,
            context,
            blocks=s.blocks,
            hidden=s.hidden,
            depth=max(s.depth, 1),
            bins=s.bins,
            bound=s.bound,
            dropout=s.dropout,
        )
        self.register_buffer("mean", torch.zeros(layers))
        self.register_buffer("std", torch.ones(layers))

    @property
    def noise_size(self) -> int:
        """Normal numbers that one shower takes."""
        return self.layers

    def begin_fit(self) -> None:
        """Start collecting the statistics of the training split."""
        self._moments = RunningMoments((self.layers,))

    def fit_batch(self, energies: Tensor, incident: Tensor, threshold: float) -> None:
        """Add layer energies (n, Z) and incident energies (n,), MeV."""
        generator = torch.Generator().manual_seed(self._moments.count)
        uniform = torch.rand(energies.shape, generator=generator)
        self._moments.add(self._coordinates(energies, incident, threshold, uniform))

    def end_fit(self) -> None:
        """Keep the statistics collected since `begin_fit` as buffers."""
        self._moments.store(self.mean, self.std)
        del self._moments

    def _coordinates(
        self, energies: Tensor, incident: Tensor, threshold: Tensor | float, uniform: Tensor
    ) -> Tensor:
        s = self.settings
        if s.fill == "uniform":
            filled = energies + s.noise_mev * uniform.clamp(1e-6, 1)
        else:
            below = threshold * fill_below(uniform, s.width).exp()
            filled = torch.where(energies >= threshold, energies, below)
        return energy_logits(filled, incident, s.scale)

    def log_prob(
        self, energies: Tensor, incident: Tensor, context: Tensor, threshold: Tensor | float, uniform: Tensor
    ) -> Tensor:
        """log p of layer energies (n, Z) with uniform noise (n, Z), in the coordinates of the flow: (n,)."""
        y = (self._coordinates(energies, incident, threshold, uniform) - self.mean) / self.std
        return self.flow.log_prob(y, context)

    def sample(self, noise: Tensor, incident: Tensor, context: Tensor, threshold: Tensor | float) -> Tensor:
        """Layer energies (n, Z), MeV, of noise (n, Z); none lies between 0 and the threshold."""
        z = self.flow.sample(noise, context) * self.std + self.mean
        energies = layer_energies_from_logits(z, incident, self.settings.scale)
        width = self.settings.noise_mev if self.settings.fill == "uniform" else 0.0
        return cut_noise(energies, width, threshold)
