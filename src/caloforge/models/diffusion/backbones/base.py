"""The network of a diffusion model: from noisy cells, noise level and conditions to a map of the cells."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar

import torch
from pydantic import BeforeValidator, SerializeAsAny
from torch import Tensor, nn

from caloforge.detector.mesh import Mesh
from caloforge.models.networks.linear import CastLinear
from caloforge.registry import Registry
from caloforge.settings import KindSettings

__all__ = ["BACKBONES", "Backbone", "BackboneChoice", "LevelEmbedding"]


class Backbone(nn.Module, ABC):
    """A network over the cells of a regular mesh (Z, P, R).

    Args:
        settings: `Settings` of the subclass.
        mesh: a regular mesh; the φ axis of a cylinder is cyclic.
        conditions: K, numbers that are known of a shower.
        layers: L, numbers that are known of each layer.
        levels: noise levels that the network is given.

    Attributes:
        reads_shares: True where `forward` needs ``shares``, for which coordinates of some kinds are needed.
    """

    Settings: ClassVar[type[KindSettings]]
    reads_shares: bool = False

    @abstractmethod
    def __init__(self, settings: Any, mesh: Mesh, *, conditions: int, layers: int, levels: int = 1) -> None:
        super().__init__()

    @abstractmethod
    def prepare(self, conditions: Tensor, layers: Tensor) -> Any:
        """What all calls for the same n showers share, computed once.

        Args:
            conditions: (n, K), of order one.
            layers: what is known of each layer, (n, Z, L), of order one.
        """

    @abstractmethod
    def forward(self, x: Tensor, level: Tensor, prepared: Any, shares: Tensor | None = None) -> Tensor:
        """A map (n, Z, P, R) of noisy cells (n, Z, P, R) at noise levels (n, levels) in [0, 1].

        ``shares`` (n, Z, P, R) are the shares of their layers' energies that the noisy cells stand for, where
        `reads_shares` is true.
        """


BACKBONES: Registry[type[Backbone]] = Registry(
    "backbone", "caloforge.models.diffusion.backbones", default="transformer"
)
"""Networks of diffusion models by the ``kind`` of their settings."""

BackboneChoice = Annotated[SerializeAsAny[KindSettings], BeforeValidator(BACKBONES.settings)]
"""Type of a settings field that says which network, and its settings."""


class LevelEmbedding(nn.Module):
    """Noise levels in [0, 1] as ``width`` numbers: sines and cosines through two layers.

    With several levels the later ones start without any effect, so that a network that was trained with one
    can go on with more.
    """

    frequencies: Tensor

    def __init__(self, width: int, levels: int = 1, frequencies: int = 32) -> None:
        super().__init__()
        self.register_buffer(
            "frequencies", torch.logspace(0, 3, frequencies) * torch.pi / 2, persistent=False
        )
        self.inner = nn.ModuleList(CastLinear(2 * frequencies, width) for _ in range(levels))
        self.outer = nn.ModuleList(CastLinear(width, width) for _ in range(levels))
        for later in list(self.outer)[1:]:
            assert isinstance(later, CastLinear)
            nn.init.zeros_(later.weight)
            nn.init.zeros_(later.bias)

    def forward(self, level: Tensor) -> Tensor:
        """(n, levels) → (n, width)."""
        angles = level[..., None] * self.frequencies
        waves = torch.cat([angles.sin(), angles.cos()], dim=-1)  # (n, levels, 2 frequencies)
        embedded = [
            outer(nn.functional.silu(inner(waves[:, i])))
            for i, (inner, outer) in enumerate(zip(self.inner, self.outer, strict=True))
        ]
        return torch.stack(embedded).sum(dim=0)
