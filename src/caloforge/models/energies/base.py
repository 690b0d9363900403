"""What every model of layer energies is: a loss to train it and a map from noise to layer energies.

Legend: ``n`` showers, ``Z`` layers, ``C`` context numbers. Energies and thresholds are MeV, or in
another unit that all of them have.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BeforeValidator, Field, SerializeAsAny
from torch import Tensor, nn

from caloforge.registry import Registry
from caloforge.settings import KindSettings

__all__ = [
    "ENERGIES",
    "LayerEnergyChoice",
    "LayerEnergyDensity",
    "LayerEnergyModel",
    "LayerEnergySettings",
    "layer_energy_model",
]


class LayerEnergySettings(KindSettings):
    """Settings of the models of layer energies that come with caloforge; those of yours may be others.

    They share one table, which checkpoints hold whole.

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

    blocks: int = Field(6, ge=1)
    hidden: int = Field(128, ge=1)
    depth: int = Field(1, ge=0)
    bins: int = Field(8, ge=2)
    bound: float = Field(6.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    heads: int = Field(4, ge=1)
    head: str = "splines"
    steps: int = Field(8, ge=1)
    scale: float = Field(2.5, gt=0)
    fill: Literal["log-normal", "uniform"] = "log-normal"
    noise_mev: float = Field(5e-3, gt=0)
    width: float = Field(2.0, gt=0)


class LayerEnergyModel(nn.Module, ABC):
    """Generator of layer energies (n, Z), given incident energies (n,) and a context (n, C).

    Args:
        settings: `Settings` of the subclass.
        layers: Z.
        context: C.
    """

    Settings: ClassVar[type[KindSettings]]

    @abstractmethod
    def __init__(self, settings: Any, layers: int, context: int) -> None:
        super().__init__()

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
        threshold: Tensor | float,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Loss of each shower, (n,), given its layer energies (n, Z); all random numbers of ``generator``."""

    @abstractmethod
    def sample(self, noise: Tensor, incident: Tensor, context: Tensor, threshold: Tensor | float) -> Tensor:
        """Layer energies (n, Z) of normal noise (n, noise_size); none between 0 and the threshold."""


class LayerEnergyDensity(LayerEnergyModel):
    """A model that knows the density of layer energies; its loss is the negative log-likelihood."""

    @abstractmethod
    def log_prob(
        self, energies: Tensor, incident: Tensor, context: Tensor, threshold: Tensor | float, uniform: Tensor
    ) -> Tensor:
        """log p of layer energies (n, Z), (n,); ``uniform`` (n, Z) places the empty ones."""

    def loss(
        self,
        energies: Tensor,
        incident: Tensor,
        context: Tensor,
        threshold: Tensor | float,
        generator: torch.Generator | None,
    ) -> Tensor:
        uniform = torch.rand(energies.shape, generator=generator, device=energies.device)
        return -self.log_prob(energies, incident, context, threshold, uniform)


ENERGIES: Registry[type[LayerEnergyModel]] = Registry(
    "layer energies", "caloforge.models.energies", default="autoregressive"
)
"""Models of layer energies by the ``kind`` of their settings."""

LayerEnergyChoice = Annotated[SerializeAsAny[KindSettings], BeforeValidator(ENERGIES.settings)]
"""Type of a settings field that says which model of layer energies, and its settings."""


def layer_energy_model(settings: KindSettings, layers: int, context: int) -> LayerEnergyModel:
    """The model for the energies of Z = ``layers`` layers that the settings ask for; C = ``context``."""
    return ENERGIES[settings.kind](settings, layers, context)
