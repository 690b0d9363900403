"""Pixel events as tensors on one device: sparse, as they are kept, and batches of images, as models see them.

Legend: ``n`` events, ``S`` sensors of ``U`` × ``V`` cells, ``H`` hits, ``B`` sources of background.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from caloforge.data.pixels.events import PixelEvents

__all__ = ["PixelBatch", "SparseEvents"]


@dataclass
class PixelBatch:
    """n events to train on.

    Attributes:
        images: charges of all cells, (n, S, U, V) uint8, ADU.
        rates: factor of each source of background, (n, B) float32.
    """

    images: Tensor
    rates: Tensor

    def __len__(self) -> int:
        return len(self.rates)


@dataclass(frozen=True)
class SparseEvents:
    """Hits and rates of n events.

    Attributes:
        shape: (S, U, V).
        rates: factor of each source of background, (n, B) float32.
        first: number of the first hit of each event and, last, H; (n + 1,) int64, always in CPU memory, so
            that no GPU is waited for.
        cell: (H,) int32, (sensor · U + u) · V + v, rising in each event.
        charge: (H,) uint8, ADU.
    """

    shape: tuple[int, int, int]
    rates: Tensor
    first: Tensor
    cell: Tensor
    charge: Tensor

    @classmethod
    def of(cls, events: PixelEvents) -> SparseEvents:
        """All of these events, in CPU memory."""
        hits = events.read(0, len(events))
        return cls(
            hits.shape,
            torch.from_numpy(events.conditions.rates.astype(np.float32)),
            torch.from_numpy(hits.first),
            torch.from_numpy((hits.cell % np.prod(hits.shape)).astype(np.int32)),
            torch.from_numpy(hits.charge),
        )

    def __len__(self) -> int:
        return len(self.rates)

    @property
    def device(self) -> torch.device:
        return self.rates.device

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """The same on another device."""
        rates, cell, charge = (
            tensor.to(device, non_blocking=non_blocking) for tensor in (self.rates, self.cell, self.charge)
        )
        return replace(self, rates=rates, cell=cell, charge=charge)

    @property
    def index_device(self) -> torch.device:
        """Where an index of events has to be: with ``first``."""
        return self.first.device

    def __getitem__(self, index: slice | Tensor) -> Self:
        """Consecutive events, or those at an index (k,) in CPU memory."""
        if isinstance(index, slice):
            return self._span(*index.indices(len(self))[:2])
        numbers = self.first[index + 1] - self.first[index]
        first = torch.cat([torch.zeros(1, dtype=torch.int64), numbers.cumsum(0)])
        moved, total = self.first[index] - first[:-1], int(first[-1])
        hits = torch.arange(total, device=self.device) + torch.repeat_interleave(
            moved.to(self.device), numbers.to(self.device), output_size=total
        )
        return replace(
            self,
            rates=self.rates[index.to(self.device)],
            first=first,
            cell=self.cell[hits],
            charge=self.charge[hits],
        )

    def _span(self, start: int, stop: int) -> Self:
        first = self.first[start : max(start, stop) + 1]
        hits = slice(int(first[0]), int(first[-1]))
        return replace(
            self,
            rates=self.rates[start:stop],
            first=first - first[0],
            cell=self.cell[hits],
            charge=self.charge[hits],
        )

    @property
    def event(self) -> Tensor:
        """The event of each hit, (H,) int64, from 0 to n − 1."""
        numbers = (self.first[1:] - self.first[:-1]).to(self.device)
        return torch.repeat_interleave(
            torch.arange(len(self), device=self.device), numbers, output_size=len(self.cell)
        )

    def dense(self) -> PixelBatch:
        """All cells: 7.7 MB for an event of 40 × 250 × 768 of them."""
        sensors, n_u, n_v = self.shape
        images = torch.zeros(len(self), sensors * n_u * n_v, dtype=torch.uint8, device=self.device)
        images[self.event, self.cell.long()] = self.charge
        return PixelBatch(images.view(len(self), *self.shape), self.rates)
