"""The network of a diffusion model: from noisy cells, noise level and conditions to a map of the cells."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Backbone", "LevelEmbedding"]


class Backbone(nn.Module, ABC):
    """A network over the cells of a regular mesh (Z, P, R).

    A subclass is one file; it takes its settings, a mesh and the keywords ``conditions``, the K numbers of a
    shower, ``layers``, the L numbers of each layer, and ``levels``, the noise levels that it is told.
    """

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

        ``shares`` (n, Z, P, R) are the shares of their layers' energies that the noisy cells stand for, for
        networks that were made for it.
        """


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
        self.inner = nn.ModuleList(nn.Linear(2 * frequencies, width) for _ in range(levels))
        self.outer = nn.ModuleList(nn.Linear(width, width) for _ in range(levels))
        for later in list(self.outer)[1:]:
            assert isinstance(later, nn.Linear)
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
