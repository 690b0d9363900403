"""Layer energies by an autoregressive flow over how the energy left is split, layer after layer.

The coordinates are logits of CaloFlow's ratios, u_0 = ΣE/(c·E_inc) and u_{n+1} = E_n/Σ_{k≥n} E_k
(arXiv:2106.05285), standardised. `LayerEnergyFlow`, `LongitudinalFlow` and `LayerEnergyTransformer` have the
same methods, so that a model can be given any: see `layer_energy_flow`.

Legend: ``n`` showers, ``Z`` layers, ``C`` context numbers. Energies are MeV.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from caloforge.models.coordinates import (
    RunningMoments,
    cut_noise,
    energy_logits,
    fill_below,
    layer_energies_from_logits,
)
from caloforge.models.energies.base import LayerEnergyDensity, LayerEnergyModel
from caloforge.models.energies.inductive import LongitudinalFlow
from caloforge.models.flow.autoregressive.flow import AutoregressiveFlow

__all__ = ["LayerEnergyFlow", "LayerEnergySettings", "layer_energy_flow"]

TRANSFORMER = {"blocks": 3, "hidden": 64, "dropout": 0.1, "bins": 10, "bound": 5.0}
"""What differs for transformers where nothing is given."""


class LayerEnergySettings(BaseModel):
    """Settings of a model of layer energies.

    Attributes:
        kind: "autoregressive" (`LayerEnergyFlow`), "inductive" (`LongitudinalFlow`, one network for all
            layers) or "transformer" (`LayerEnergyTransformer`).
        blocks: MADE blocks, or blocks of the transformer (by default 3); not for "inductive".
        hidden, depth, bins, bound: of the networks and their splines; a transformer has by default 64 numbers
            a token, and ``depth`` hidden layers in its head.
        dropout: of hidden units, in a transformer by default 0.1; not for "inductive".
        heads: of the transformer's attention.
        head: what a transformer draws a ratio with, "splines" or "flow-matching", as in CaloDREAM.
        steps: midpoint steps of flow matching.
        scale: c, larger than any ΣE/E_inc.
        fill: what stands for empty layers: "log-normal" values below the threshold, or "uniform" noise of
            ``noise_mev`` that is added to every layer's energy, as published.
        noise_mev: width of that noise, MeV.
        width: of the log-normal values, see `fill_below`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["autoregressive", "inductive", "transformer"] = "autoregressive"
    blocks: int = Field(6, ge=1)
    hidden: int = Field(128, ge=1)
    depth: int = Field(1, ge=0)
    bins: int = Field(8, ge=2)
    bound: float = Field(6.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    heads: int = Field(4, ge=1)
    head: Literal["splines", "flow-matching"] = "splines"
    steps: int = Field(8, ge=1)
    scale: float = Field(2.5, gt=0)
    fill: Literal["log-normal", "uniform"] = "log-normal"
    noise_mev: float = Field(5e-3, gt=0)
    width: float = Field(2.0, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _of_kind(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("kind") == "transformer":
            return TRANSFORMER | given
        return given


class LayerEnergyFlow(LayerEnergyDensity):
    """Density and sampler of layer energies (n, Z), MeV."""

    mean: Tensor
    std: Tensor

    def __init__(self, layers: int, context: int, settings: LayerEnergySettings) -> None:
        super().__init__()
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

    def _coordinates(self, energies: Tensor, incident: Tensor, threshold: float, uniform: Tensor) -> Tensor:
        s = self.settings
        if s.fill == "uniform":
            filled = energies + s.noise_mev * uniform.clamp(1e-6, 1)
        else:
            below = threshold * fill_below(uniform, s.width).exp()
            filled = torch.where(energies >= threshold, energies, below)
        return energy_logits(filled, incident, s.scale)

    def log_prob(
        self, energies: Tensor, incident: Tensor, context: Tensor, threshold: float, uniform: Tensor
    ) -> Tensor:
        """log p of layer energies (n, Z) with uniform noise (n, Z), in the coordinates of the flow: (n,)."""
        y = (self._coordinates(energies, incident, threshold, uniform) - self.mean) / self.std
        return self.flow.log_prob(y, context)

    def sample(self, noise: Tensor, incident: Tensor, context: Tensor, threshold: float) -> Tensor:
        """Layer energies (n, Z), MeV, of noise (n, Z); none lies between 0 and the threshold."""
        z = self.flow.sample(noise, context) * self.std + self.mean
        energies = layer_energies_from_logits(z, incident, self.settings.scale)
        width = self.settings.noise_mev if self.settings.fill == "uniform" else 0.0
        return cut_noise(energies, width, threshold)


def layer_energy_flow(layers: int, context: int, settings: LayerEnergySettings) -> LayerEnergyModel:
    """The model for the energies of ``layers`` layers that the settings ask for; C = ``context``."""
    if settings.kind == "autoregressive":
        return LayerEnergyFlow(layers, context, settings)
    if settings.kind == "transformer":
        from caloforge.models.energies.transformer import LayerEnergyTransformer

        return LayerEnergyTransformer(
            layers,
            context,
            width=settings.hidden,
            depth=settings.blocks,
            heads=settings.heads,
            dropout=settings.dropout,
            head=settings.head,
            head_depth=settings.depth,
            bins=settings.bins,
            bound=settings.bound,
            steps=settings.steps,
            scale=settings.scale,
            fill=settings.width,
        )
    return LongitudinalFlow(
        layers,
        context,
        hidden=settings.hidden,
        depth=settings.depth,
        bins=settings.bins,
        bound=settings.bound,
        width=settings.width,
    )
