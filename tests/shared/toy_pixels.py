"""A small real model of pixel events: the share of lit cells of each sensor is linear in the rates."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.data.pixels import PixelEvents
from caloforge.models.pixels import PixelBatch, PixelModel

RECIPE = {
    "model": "toy_pixels:Occupancy",
    "training": {"epochs": 4, "batch_size": 5, "learning_rate": 0.02, "ema": 0.9},
}


class Occupancy(PixelModel):
    """Cells are lit independently, with 50 ADU."""

    def __init__(self, mesh, settings=None):
        super().__init__(mesh, settings)
        self.slope = nn.Parameter(torch.zeros(mesh.shape[0], len(mesh.detector.sources)))
        self.register_buffer("mean", torch.zeros(mesh.shape[0]))

    def fit(self, events: PixelEvents) -> None:
        counts = np.concatenate([hits.counts for hits, _ in events.batches(7)])
        self.mean.copy_(torch.from_numpy(counts.mean(axis=0) / np.prod(self.mesh.shape[1:])))

    def share(self, rates: Tensor) -> Tensor:
        return (self.mean + (rates - 1) @ self.slope.T).clamp(0.001, 0.999)

    def losses(self, batch: PixelBatch, part: str, generator: torch.Generator) -> dict[str, Tensor]:
        lit = (batch.images > 0).float().mean(dim=(2, 3))
        lit = lit + 0.001 * torch.randn(lit.shape, generator=generator, device=lit.device)
        return {"loss": (lit - self.share(batch.rates)).square().mean()}

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"cells": self.mesh.shape}

    def decode(self, noise: Mapping[str, Tensor], rates: Tensor) -> Tensor:
        lit = torch.special.ndtr(noise["cells"]) < self.share(rates)[:, :, None, None]
        return (lit * 50).to(torch.uint8)
