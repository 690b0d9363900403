"""Rows of a classifier's inputs as tensors, standardised where that is asked for.

Legend: ``n`` rows, ``D`` inputs, of which ``C`` are cells.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloforge.evaluation.classifiers.inputs import Layout, Table

__all__ = ["Batches"]

CHUNK = 500
Rows = NDArray[np.int64]


class Batches:
    """Turns row numbers into inputs of a network, (n, D) or, where cells are standardised, (n, D + C).

    Standardised, an input that is not a cell gets mean 0 and standard deviation 1. Cells get mean 0 each but
    share one scale, so that noise in rarely hit cells is not blown up, and come a second time as
    log(1 + E / E₀), where E₀ is the smallest cell energy above zero (of fractions of a layer's energy, the
    smallest fraction): sums of energies are easy to see in the first, which cells are hit in the second. All
    constants come from the training rows alone.

    Args:
        table: (N, D); a GPU holds it whole where it fills less than half of the free memory.
        layout: what its columns are.
        train: rows to take the constants from; None leaves the inputs as they are.
        device: of the tensors.
    """

    def __init__(self, table: Table, layout: Layout, train: Rows | None, device: torch.device) -> None:
        self._table: Tensor = torch.from_numpy(table)
        if device.type == "cuda" and 2 * table.nbytes < torch.cuda.mem_get_info(device)[0]:
            self._table = self._table.to(device)
        self._layout, self.device = layout, device
        self._smallest: float | None = None
        self._shift_and_scale: tuple[Tensor, Tensor] | None = None
        if train is not None:
            rows = np.sort(train)
            if layout.cells.stop > layout.cells.start:
                self._smallest = self._smallest_cell(rows)
            self._shift_and_scale = self._moments(rows)

    @property
    def width(self) -> int:
        """Number of inputs of the network."""
        cells = self._layout.cells
        return self._layout.width + (0 if self._smallest is None else cells.stop - cells.start)

    def columns(self, inputs: NDArray[np.int64]) -> Tensor:
        """Columns of the network's inputs that belong to these columns of the table."""
        cells = self._layout.cells
        twice = inputs[(inputs >= cells.start) & (inputs < cells.stop)] if self._smallest is not None else []
        both = np.concatenate([inputs, np.asarray(twice, dtype=np.int64) - cells.start + self._layout.width])
        return torch.from_numpy(both).to(self.device)

    def __call__(self, rows: Rows) -> Tensor:
        """Inputs of the network for these rows, (n, width)."""
        values = self._extended(rows)
        if self._shift_and_scale is None:
            return values
        shift, scale = self._shift_and_scale
        return (values - shift) * scale

    def raw(self, rows: Rows) -> Tensor:
        """These rows of the table as they are, (n, D)."""
        return self._table[torch.from_numpy(rows).to(self._table.device)].to(self.device)

    def _energies(self, values: Tensor) -> Tensor:
        """Cells in MeV, or as they are where they are fractions of their layers, (n, C)."""
        cells = values[:, self._layout.cells]
        return cells * 10 ** values[:, :1] if self._layout.absolute else cells

    def _extended(self, rows: Rows) -> Tensor:
        values = self.raw(rows)
        if self._smallest is None:
            return values
        return torch.cat([values, torch.log1p(self._energies(values) / self._smallest)], dim=1)

    def _smallest_cell(self, rows: Rows) -> float:
        smallest = torch.inf
        for start in range(0, len(rows), CHUNK):
            cells = self._energies(self.raw(rows[start : start + CHUNK]))
            smallest = min(smallest, float(cells.masked_fill(cells <= 0, torch.inf).min()))
        return smallest if np.isfinite(smallest) else 1.0

    def _moments(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Mean and 1 / standard deviation of each input, (width,); inputs that never vary become 0."""
        total = torch.zeros(2, self.width, dtype=torch.float64, device=self.device)
        shift = self._extended(rows[:1]).double()  # near the mean, so that the variance does not cancel
        for start in range(0, len(rows), CHUNK):
            values = self._extended(rows[start : start + CHUNK]).double() - shift
            total += torch.stack([values.sum(dim=0), (values**2).sum(dim=0)])
        mean, square = total / len(rows)
        variance = (square - mean**2).clamp(min=0.0)
        for group in (self._layout.cells, slice(self._layout.width, None)):
            if self._smallest is not None:
                variance[group] = variance[group].mean()
        scale = torch.where(variance > 0, variance.clamp(min=1e-300).rsqrt(), torch.zeros_like(variance))
        return (mean + shift[0]).float(), scale.float()
