"""GANs of dense networks, for any mesh: FastCaloGAN (arXiv:2109.02551) and CaloShowerGAN (arXiv:2309.06515).

FastCaloGAN makes all cells at once. CaloShowerGAN makes ratios: the response ΣE/E_inc, the share of each
layer in it and of each cell in its layer, the shares by a softmax, and has networks of their own for ranges
of energy.

Legend: ``n`` showers, ``V`` cells, ``Z`` layers, ``M`` cells of the largest layer, ``K`` numbers of context,
``R`` ranges of energy. Energies are MeV.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.detector.mesh import Mesh
from caloforge.models.adversarial.model import AdversarialModel, AdversarialSettings
from caloforge.models.base import Batch, ConditionTensors
from caloforge.models.networks.spectral import dense

__all__ = ["DenseGAN"]

ONE = math.log(math.expm1(1.0))
"""softplus of it is 1."""
LARGEST = 10.0
"""Responses are at most so many times the mean one."""
SLOPE = 0.2


class _ByRange(nn.Module):
    """Dense networks (n, I) → (n, O), one for each range of energy."""

    def __init__(
        self, ranges: int, inputs: int, hidden: tuple[int, ...], outputs: int, *, spectral: bool, bias: bool
    ) -> None:
        super().__init__()
        linear = dense(spectral)

        def network() -> nn.Sequential:
            steps: list[nn.Module] = []
            for a, b in pairwise((inputs, *hidden)):
                steps += [linear(a, b), nn.LeakyReLU(SLOPE)]
            return nn.Sequential(*steps, linear(hidden[-1], outputs, bias=bias))

        self.networks = nn.ModuleList(network() for _ in range(ranges))

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        """(n, O) by the networks of the ranges ``place`` (n,); all of them compute all showers."""
        made = torch.stack([network(x) for network in self.networks])  # (R, n, O)
        return made.gather(0, place[None, :, None].expand(1, *made.shape[1:]))[0]


class DenseGAN(AdversarialModel):
    """Critic and generator of dense layers, for any mesh, ragged or not."""

    class Settings(AdversarialSettings):
        """Sizes of the networks.

        Attributes:
            head: "ratios", as CaloShowerGAN, or "cells", as FastCaloGAN.
            hidden, critic_hidden: units of the hidden layers.
            ranges_mev: incident energies between which networks change; none for one network.
        """

        latent: int = Field(50, ge=1)
        head: Literal["ratios", "cells"] = "ratios"
        hidden: tuple[int, ...] = (50, 100, 200)
        critic_hidden: tuple[int, ...] = (400, 200, 100)
        ranges_mev: tuple[float, ...] = ()

        @field_validator("hidden", "critic_hidden")
        @classmethod
        def _layers(cls, units: tuple[int, ...]) -> tuple[int, ...]:
            if not units or min(units) < 1:
                raise ValueError("at least one hidden layer of one unit is needed")
            return units

        @field_validator("ranges_mev")
        @classmethod
        def _rising(cls, energies: tuple[float, ...]) -> tuple[float, ...]:
            if any(b <= a for a, b in pairwise((0.0, *energies))):
                raise ValueError("ranges_mev must be positive energies that increase")
            return energies

    example: ClassVar[Mapping[str, Any]] = {
        "latent": 4,
        "hidden": (8,),
        "critic_hidden": (8,),
        "ranges_mev": (7000.0,),
    }
    settings: Settings
    borders: Tensor
    response: Tensor

    def __init__(self, mesh: Mesh, settings: Settings | Mapping[str, object] | None = None) -> None:
        super().__init__(mesh, settings)
        s = self.settings
        context = self._begin()
        n, ranges = mesh.n_voxels, len(s.ranges_mev) + 1
        outputs = n + mesh.n_layers + 1 if s.head == "ratios" else n
        self.register_buffer("borders", torch.tensor(s.ranges_mev), persistent=False)
        self.register_buffer("response", torch.ones(()))
        seen = n + self.summary_size + context
        self._build(
            _ByRange(ranges, s.latent + context, s.hidden, outputs, spectral=False, bias=True),
            _ByRange(ranges, seen, s.critic_hidden, 1, spectral=s.spectral, bias=False),
        )

    def begin_fit(self) -> None:
        self._sums = [0.0, 0.0]

    def fit_batch(self, batch: Batch) -> None:
        self._sums[0] += float(batch.energies.double().sum())
        self._sums[1] += float(batch.energy.double().sum())

    def end_fit(self) -> None:
        self.response.fill_(self._sums[0] / self._sums[1])
        del self._sums

    def _place(self, conditions: ConditionTensors) -> Tensor:
        """Which range of energy, (n,)."""
        return (conditions.energy[:, None] >= self.borders).sum(dim=1)

    def proposed(
        self, noise: Mapping[str, Tensor], context: Tensor, conditions: ConditionTensors
    ) -> tuple[Tensor, Tensor | None]:
        made = self.generator(torch.cat([noise["latent"], context], dim=1), self._place(conditions))
        if self.settings.head == "cells":
            return self.cells.inverse(F.softplus(made)), None
        cells, layers, response = made.split_with_sizes((self.mesh.n_voxels, self.mesh.n_layers, 1), dim=1)
        ratio = F.softplus(response + ONE).clamp(max=LARGEST) * self.response
        energies = conditions.energy[:, None] * ratio * layers.softmax(dim=1)  # (n, Z)
        energies = torch.where(energies >= self.threshold, energies, 0.0)
        logits = torch.where(self.layers.mask, self.layers.split(cells), -torch.inf)  # (n, Z, M)
        return self.layers.join(logits.softmax(dim=-1) * energies[..., None]), energies

    def score(self, seen: Tensor, context: Tensor, conditions: ConditionTensors) -> Tensor:
        known = torch.cat([seen, self.summary(seen), context], dim=1)
        scores: Tensor = self.critic(known, self._place(conditions))
        return scores[:, 0]
