"""A head of conditional flow matching, as in CaloDREAM (arXiv:2405.09629)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.energies.base import LayerEnergySettings
from caloforge.models.energies.heads import HEADS, Head

__all__ = ["FlowMatchingHead"]

DRAWS = 4
"""Times and noises of a state in a training step; the network that sees them is small."""


@HEADS.add("flow-matching")
class FlowMatchingHead(Head):
    """The velocity along the line from data to noise, x_t = (1 − t)·z + t·ε (arXiv:2210.02747)."""

    def __init__(self, settings: LayerEnergySettings) -> None:
        super().__init__(settings)
        width, depth, self.steps = settings.hidden, settings.depth, settings.steps
        self.state = nn.Linear(width, width)
        self.number = nn.Linear(1, width, bias=False)
        self.time = nn.Linear(5, width, bias=False)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.out = nn.Linear(width, 1)

    def _embedded(self, t: Tensor) -> Tensor:
        """Times (…) → (…, W)."""
        waves = [f(k * torch.pi * t) for k in (1, 2) for f in (torch.sin, torch.cos)]
        embedded: Tensor = self.time(torch.stack([t, *waves], dim=-1))
        return embedded

    def _velocity(self, x: Tensor, condition: Tensor) -> Tensor:
        """dx/dt (…) at x (…), given the embedding of state and time, (…, W)."""
        h = condition + self.number(x[..., None])
        for block in self.blocks:
            h = h + block(F.silu(h))
        velocity: Tensor = self.out(F.silu(h))[..., 0]
        return velocity

    def loss(self, z: Tensor, states: Tensor, generator: torch.Generator | None) -> Tensor:
        t = torch.rand((DRAWS, *z.shape), generator=generator, device=z.device, dtype=z.dtype)
        noise = torch.randn((DRAWS, *z.shape), generator=generator, device=z.device, dtype=z.dtype)
        velocity = self._velocity((1 - t) * z + t * noise, self.state(states) + self._embedded(t))
        return (velocity - (noise - z)).square().mean(dim=0)

    def sample(self, noise: Tensor, states: Tensor) -> Tensor:
        state, x = self.state(states), noise
        times = self._embedded(torch.linspace(1, 0, 2 * self.steps + 1, device=x.device, dtype=x.dtype))
        for start, middle in zip(times[:-1:2], times[1::2], strict=True):  # midpoint steps
            half = x - self._velocity(x, state + start) / (2 * self.steps)
            x = x - self._velocity(half, state + middle) / self.steps
        return x
