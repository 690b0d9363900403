"""The Wasserstein GAN of "Getting High" (arXiv:2005.05334), whose energies a constrainer watches over.

Legend: ``n`` showers, mesh (Z, P, R), ``K`` numbers of context. Energies are MeV.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.detector.mesh import Mesh
from caloforge.models.adversarial.model import AdversarialModel, AdversarialSettings
from caloforge.models.autoencoder.volumes import Size, Step, dense, trunk
from caloforge.models.base import Batch, ConditionTensors

__all__ = ["VolumeGAN"]

DOUBLINGS = 3
GEV = 1000.0


class _Generator(nn.Module):
    """Noise and context → cells (n, V) ≥ 0: a start from each, three doublings, two cells less."""

    def __init__(self, size: Size, latent: int, context: int, channels: int) -> None:
        super().__init__()
        self.size = size
        self.start = tuple(-(-(s + 2) // 2**DOUBLINGS) for s in size)
        widths = [channels * 2 ** (DOUBLINGS - 1 - i) for i in range(DOUBLINGS)]
        cells, half = math.prod(self.start), 4 * channels
        self.of_noise = nn.Linear(latent, half * cells, bias=False)
        self.of_context = nn.Linear(context, half * cells, bias=False)
        steps: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise((2 * half, *widths))):
            doubled = tuple(s * 2 ** (i + 1) for s in self.start)
            steps += [nn.ConvTranspose3d(a, b, 4, 2, 1, bias=False), nn.LayerNorm(doubled), nn.ReLU()]
        self.convolutions = nn.Sequential(*steps, nn.ConvTranspose3d(channels, 1, 3, 1, 2, bias=False))

    def forward(self, noise: Tensor, context: Tensor) -> Tensor:
        starts = [
            f(x).view(x.shape[0], -1, *self.start)
            for f, x in ((self.of_context, context), (self.of_noise, noise))
        ]
        z, p, r = self.size
        cells: Tensor = self.convolutions(torch.cat(starts, dim=1))[:, 0, :z, :p, :r]
        return torch.relu(cells).flatten(1)


class _Seeing(nn.Module):
    """Convolutions of cells (n, V), then dense layers that are given context (n, K) beside; (n,)."""

    def __init__(
        self, size: Size, context: int, steps: list[Step], hidden: tuple[int, ...], *, bias_last: bool
    ) -> None:
        super().__init__()
        self.size = size
        self.convolutions, features = trunk(size, steps, norm_last=False)
        self.dense = dense([features + context, *hidden, 1], bias_last=bias_last)

    def forward(self, seen: Tensor, context: Tensor) -> Tensor:
        features = self.convolutions(seen.view(-1, 1, *self.size))
        out: Tensor = self.dense(torch.cat([features, context], dim=1))
        return out[:, 0]


class VolumeGAN(AdversarialModel):
    """Generator, critic and a constrainer that tells the incident energy of showers; on regular meshes."""

    class Settings(AdversarialSettings):
        """Sizes of the networks.

        Attributes:
            channels, critic_channels, constrainer_channels: of their convolutions.
            critic_hidden, constrainer_hidden: units of their dense layers.
            constraint: weight of |(a(x̃) − E)² − (a(x) − E)²|, GeV², of the constrainer's estimates a.
        """

        latent: int = Field(100, ge=1)
        power: float = Field(1.0, ge=0, le=1)
        penalty: float = Field(5.0, ge=0)
        channels: int = Field(32, ge=1)
        critic_channels: int = Field(32, ge=1)
        constrainer_channels: int = Field(16, ge=1)
        critic_hidden: tuple[int, ...] = (100, 200, 100, 75)
        constrainer_hidden: tuple[int, ...] = (100,)
        constraint: float = Field(0.01, ge=0)

    mesh_kinds: ClassVar[tuple[str, ...]] = ("cylinder", "box")
    example: ClassVar[Mapping[str, Any]] = {
        "latent": 4,
        "channels": 2,
        "critic_channels": 2,
        "constrainer_channels": 2,
        "critic_hidden": (8,),
        "constrainer_hidden": (8,),
    }
    settings: Settings
    most: Tensor

    def __init__(self, mesh: Mesh, settings: Settings | Mapping[str, object] | None = None) -> None:
        super().__init__(mesh, settings)
        s, (layers, rows, columns) = self.settings, mesh.shape
        size, context = (layers, rows, columns), self._begin()
        c = s.critic_channels
        critic = [
            Step(c, (10, 2, 2), (1, 2, 2), (0, 1, 1)),
            Step(2 * c, (6, 2, 2), (1, 2, 2)),
            Step(4 * c, (4, 2, 2), (1, 2, 2)),
            Step(1, (4, 2, 2), (1, 1, 1)),
        ]
        c = s.constrainer_channels
        constrainer = [Step.cube(c, 3, 2), Step.cube(2 * c, 3, 2), Step.cube(c, 2, 1)]
        self._build(
            _Generator(size, s.latent, context, s.channels),
            _Seeing(size, context, critic, s.critic_hidden, bias_last=False),
        )
        self.constrainer = _Seeing(size, 0, constrainer, s.constrainer_hidden, bias_last=True)
        self.register_buffer("most", torch.ones(()))  # largest incident energy, MeV

    def parts(self) -> dict[str, list[nn.Parameter]]:
        return super().parts() | {"constrainer": list(self.constrainer.parameters())}

    def begin_fit(self) -> None:
        self.most.zero_()

    def fit_batch(self, batch: Batch) -> None:
        self.most.copy_(torch.maximum(self.most, batch.energy.max()))

    def proposed(
        self, noise: Mapping[str, Tensor], context: Tensor, conditions: ConditionTensors
    ) -> tuple[Tensor, Tensor | None]:
        return self.cells.inverse(self.generator(noise["latent"].to(context), context)), None

    def score(self, seen: Tensor, context: Tensor, conditions: ConditionTensors) -> Tensor:
        scores: Tensor = self.critic(seen, context)
        return scores

    def _estimate(self, energies: Tensor) -> Tensor:
        """The constrainer's estimate of the incident energy of cells (n, V), in units of the largest one."""
        seen = self.cells(energies)
        estimate: Tensor = self.constrainer(seen, seen[:, :0])
        return estimate

    def losses(self, batch: Batch, part: str, generator: torch.Generator) -> dict[str, Tensor]:
        """As in the base class, and the constrainer's mean squared error."""
        if part != "constrainer":
            return super().losses(batch, part, generator)
        return {"loss": F.mse_loss(self._estimate(batch.energies.flatten(1)), batch.energy / self.most)}

    def guidance(self, energies: Tensor, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        ours, theirs = (self._estimate(x) for x in (energies, batch.energies.flatten(1)))
        truth = batch.energy / self.most
        apart = ((ours - truth).square() - (theirs.detach() - truth).square()).abs().mean()
        return {"constraint": self.settings.constraint * apart * (self.most / GEV) ** 2}
