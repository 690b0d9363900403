"""The variational autoencoder of Geant4's example Par04: dense layers from cells to ten latents and back.

Cells are shares of the incident energy, networks are told the energy, the angle and which detector it is, and
the loss is the binary cross entropy summed over cells plus the divergence of the latent from N(0, 1).

Legend: ``n`` showers, ``V`` cells, ``L`` latents, ``K`` numbers of context. Energies are MeV.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.data.showers import Showers
from caloforge.detector.mesh import Mesh
from caloforge.errors import RecipeError
from caloforge.models.autoencoder.latents import LOG_STD, kl_to_standard
from caloforge.models.base import Batch, ConditionTensors, GeneratorModel
from caloforge.models.conditions.detector import slots_of
from caloforge.models.coordinates import Layers, least_energy, renormalise_layers
from caloforge.models.coordinates.standardise import FIT_BATCH

__all__ = ["DenseVAE"]

LEAST_SHARE = 1e-7
"""Of the energy, that a cell begins with."""
SLOPE = 0.3
"""Of leaky ReLUs, that of Keras."""


def _dense(sizes: Sequence[int]) -> nn.Sequential:
    """Dense layers with leaky ReLUs and batch normalisation behind each."""
    steps: list[nn.Module] = []
    for a, b in pairwise(sizes):
        steps += [nn.Linear(a, b), nn.LeakyReLU(SLOPE), nn.BatchNorm1d(b)]
    return nn.Sequential(*steps)


class DenseVAE(GeneratorModel):
    """Encoder and decoder of dense layers, for any mesh and several detectors of so many cells."""

    class Settings(GeneratorModel.Settings):
        """Sizes of the networks.

        Attributes:
            hidden: units of the encoder's hidden layers; the decoder has them in reverse.
            latent: L.
            slots: detectors that the model can tell apart.
            threshold_mev: cells below are empty; by default the least cell energy in the training showers.
        """

        hidden: tuple[int, ...] = (100, 50, 20, 14)
        latent: int = Field(10, ge=1)
        slots: int = Field(2, ge=1)
        threshold_mev: float | None = Field(None, gt=0)

        @field_validator("hidden")
        @classmethod
        def _layers(cls, units: tuple[int, ...]) -> tuple[int, ...]:
            if not units or min(units) < 1:
                raise ValueError("at least one hidden layer of one unit is needed")
            return units

    joint: ClassVar[bool] = True
    sees_batch: ClassVar[bool] = True
    block_size: ClassVar[int] = 128
    example: ClassVar[Mapping[str, Any]] = {"hidden": (8, 6), "latent": 3}
    settings: Settings
    threshold: Tensor
    most: Tensor

    def __init__(self, mesh: Mesh, settings: Settings | Mapping[str, object] | None = None) -> None:
        super().__init__(mesh, settings)
        s, context = self.settings, 2 + self.settings.slots
        self.layers = Layers.of(mesh)
        self.encoder = _dense([mesh.n_voxels + context, *s.hidden])
        self.latent = nn.Linear(s.hidden[-1], 2 * s.latent)
        self.decoder = nn.Sequential(
            _dense([s.latent + context, *s.hidden[::-1]]), nn.Linear(s.hidden[0], mesh.n_voxels)
        )
        self.register_buffer("threshold", torch.tensor(s.threshold_mev or 1.0))
        self.register_buffer("most", torch.ones(()))  # largest incident energy, MeV

    def know(self, detectors: Sequence[str], meshes: Mapping[str, Mesh]) -> None:
        """As in the base class."""
        self._require_slots(detectors)
        super().know(detectors, meshes)

    def _require_slots(self, detectors: Sequence[str]) -> None:
        if len(detectors) > self.settings.slots:
            raise RecipeError(
                f"{len(detectors)} detectors ({', '.join(detectors)}) but settings.slots is "
                f"{self.settings.slots}; set it higher before training"
            )

    def fit(self, showers: Showers) -> None:
        self._require_slots(self.detectors)
        cells = (torch.as_tensor(energies) for energies, _ in showers.batches(FIT_BATCH))
        self.threshold.fill_(self.settings.threshold_mev or least_energy(cells))
        self.most.fill_(float(showers.conditions.energy.max()))
        self._begin_at_mean(showers)

    def _begin_at_mean(self, showers: Showers) -> None:
        """Biases with which each cell has its mean share: from ½ it is 10⁴ steps to most of them."""
        total = torch.zeros(self.mesh.n_voxels, dtype=torch.float64)
        for energies, conditions in showers.batches(FIT_BATCH):
            incident = torch.as_tensor(conditions.energy, dtype=torch.float64)
            total += (torch.as_tensor(energies).flatten(1) / incident[:, None]).sum(0)
        shares = (total / len(showers)).clamp(LEAST_SHARE, 1 - LEAST_SHARE)
        last = self.decoder[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.bias.copy_(shares.logit())

    def context(self, conditions: ConditionTensors) -> Tensor:
        """E/E_max, θ/90° and the detector as one among ``slots``, (n, K)."""
        slots = torch.arange(self.settings.slots, device=conditions.energy.device)
        hot = slots_of(conditions.detector)[:, None] == slots
        numbers = torch.stack([conditions.energy / self.most, conditions.theta / (math.pi / 2)], dim=1)
        return torch.cat([numbers, hot.to(numbers)], dim=1)

    def losses(self, batch: Batch, part: str, generator: torch.Generator) -> dict[str, Tensor]:
        """Cross entropy summed over cells, and the latent's divergence."""
        context = self.context(batch)
        shares = (batch.energies.flatten(1) / batch.energy[:, None]).clamp(0, 1)
        encoded = self.latent(self.encoder(torch.cat([shares, context], dim=1)))
        mean, log_std = encoded.chunk(2, dim=1)
        log_std = log_std.clamp(-LOG_STD, LOG_STD)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        logits = self.decoder(torch.cat([mean + log_std.exp() * noise, context], dim=1))
        entropy = F.binary_cross_entropy_with_logits(logits, shares, reduction="none").sum(dim=1).mean()
        divergence = kl_to_standard(mean, log_std).mean()
        return {"loss": entropy + divergence, "cross entropy": entropy, "divergence": divergence}

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"latent": (self.settings.latent,)}

    def decode(self, noise: Mapping[str, Tensor], conditions: ConditionTensors) -> Tensor:
        logits = self.decoder(torch.cat([noise["latent"], self.context(conditions)], dim=1))
        cells = torch.sigmoid(logits) * conditions.energy[:, None]
        if conditions.layer_energies is None:
            cells = torch.where(cells >= self.threshold, cells, 0.0)
        else:
            cells = renormalise_layers(cells, conditions.layer_energies, self.layers, self.threshold)
        return cells.view(-1, *self.mesh.shape)
