"""What sensors are to networks: learnt rows, and attention that relates the sensors of an event.

Legend: ``n`` events, ``S`` sensors, ``D`` numbers of a sensor.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.networks.spectral import dense

__all__ = ["Relations", "SensorRows"]


class Relations(nn.Module):
    """The relational reasoning module of IEA-GAN: one layer of a transformer, normalised before and after.

    Sensors are a set to it: in another order they give the same in that order.

    Args:
        size, heads, hidden: D, heads of the attention, units of the feed-forward network.
        spectral: layers have spectral norm 1.
    """

    def __init__(self, size: int, heads: int, hidden: int, *, spectral: bool) -> None:
        super().__init__()
        linear = dense(spectral)
        self.heads = heads
        self.before_attention, self.before_network = nn.LayerNorm(size), nn.LayerNorm(size)
        self.asked, self.answered = linear(size, 3 * size), linear(size, size)
        self.network = nn.Sequential(linear(size, hidden), nn.ReLU(), linear(hidden, size))
        self.last = nn.LayerNorm(size)

    def forward(self, x: Tensor) -> Tensor:
        """(n, S, D) → (n, S, D)."""
        asked = self.asked(self.before_attention(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = asked.permute(2, 0, 3, 1, 4)  # (n, heads, S, D / heads)
        found = F.scaled_dot_product_attention(query, key, value)
        x = x + self.answered(found.transpose(1, 2).flatten(2))
        out: Tensor = self.last(x + self.network(self.before_network(x)))
        return out


class SensorRows(nn.Module):
    """D numbers of each sensor: learnt ones, or with a prior half of them learnt, half from a number known.

    Args:
        sensors, size: S, D.
        prior: whether a number of each sensor is known before, as PE-GAN has it.
        spectral: whether the learnt ones have spectral norm 1, as a matrix.
    """

    eye: Tensor

    def __init__(self, sensors: int, size: int, *, prior: bool, spectral: bool) -> None:
        super().__init__()
        self.learnt = dense(spectral)(sensors, size // 2 if prior else size, bias=False)
        self.known = dense(True)(1, size - size // 2) if prior else None
        self.mixed = dense(True)(size, size) if prior else None
        self.register_buffer("eye", torch.ones(sensors).diag(), persistent=False)

    def forward(self, prior: Tensor) -> Tensor:
        """What is known before, (S,) → (S, D)."""
        rows: Tensor = self.learnt(self.eye)
        if self.known is not None and self.mixed is not None:
            rows = self.mixed(torch.cat([rows, self.known(prior[:, None])], dim=1))
        return rows
