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
    """Turns row numbers into inputs of a network: the table as it is, or standardised.

    Standardised (not part of the challenge's definition), the constants come from the training rows alone:

    * logarithms of energies are taken relative to E_inc;
    * cells and sums of cells come a second time as log(1 + E / E₀), where E₀ is the smallest cell energy
      above zero (of fractions of a layer's energy, the smallest fraction);
    * every input gets mean 0 and standard deviation 1, but cells share one scale, so that noise in rarely hit
      cells is not blown up;
    * an input whose mean in a class is t > 3 standard errors away from its mean in all counts t − 2 times,
      since among ten thousand inputs a network would not find the few that matter.

    Args:
        table: (N, D); a GPU holds it whole where it fills less than half of the free memory.
        layout: what its columns are.
        train: rows to take the constants from, with their classes; None leaves the inputs as they are.
        device: of the tensors.
        memory_limit: standardised inputs of the whole table are kept where they and the table take no more,
            bytes.
    """

    def __init__(
        self,
        table: Table,
        layout: Layout,
        train: tuple[Rows, Rows] | None,
        device: torch.device,
        memory_limit: float = 0.0,
    ) -> None:
        self._table: Tensor = torch.from_numpy(table)
        if device.type == "cuda" and 2 * table.nbytes < torch.cuda.mem_get_info(device)[0]:
            self._table = self._table.to(device)
        self._layout, self.device = layout, device
        self._twice = np.r_[layout.cells, layout.sums] if train is not None else np.arange(0)
        self._smallest = 1.0
        self._shift_and_scale: tuple[Tensor, Tensor] | None = None
        self._kept: Tensor | None = None
        if train is not None:
            self._smallest = self._smallest_cell(np.sort(train[0]))
            self._shift_and_scale = self._constants(*train)
        if train is not None and table.nbytes + 4 * len(table) * self.width <= memory_limit:
            kept = torch.empty(len(table), self.width, device=device)
            for rows in np.array_split(np.arange(len(table)), -(-len(table) // CHUNK)):
                kept[rows[0] : rows[-1] + 1] = self(rows)
            self._kept = kept

    @property
    def width(self) -> int:
        """Number of inputs of the network."""
        return self._layout.width + len(self._twice)

    def columns(self, inputs: NDArray[np.int64]) -> Tensor:
        """Columns of the network's inputs that belong to these columns of the table."""
        again = self._layout.width + np.flatnonzero(np.isin(self._twice, inputs))
        return torch.from_numpy(np.concatenate([inputs, again])).to(self.device)

    def __call__(self, rows: Rows) -> Tensor:
        """Inputs of the network for these rows, (n, width)."""
        if self._kept is not None:
            return self._kept[torch.from_numpy(rows).to(self.device)]
        values = self.raw(rows)
        if self._shift_and_scale is None:
            return values
        shift, scale = self._shift_and_scale
        return (self._extended(values) - shift) * scale

    def raw(self, rows: Rows) -> Tensor:
        """These rows of the table as they are, (n, D)."""
        return self._table[torch.from_numpy(rows).to(self._table.device)].to(self.device)

    def _energies(self, values: Tensor, columns: slice) -> Tensor:
        """Cells or sums in MeV, or as they are where they are fractions of their layers, (n, …)."""
        return values[:, columns] * 10 ** values[:, :1] if self._layout.absolute else values[:, columns]

    def _extended(self, values: Tensor) -> Tensor:
        layout = self._layout
        logs = [
            torch.log1p(self._energies(values, columns) / self._smallest)
            for columns in (layout.cells, layout.sums)
        ]
        values[:, layout.energies[1:]] -= values[:, :1]
        return torch.cat([values, *logs], dim=1)

    def _smallest_cell(self, rows: Rows) -> float:
        smallest = torch.inf
        for start in range(0, len(rows), CHUNK):
            cells = self._energies(self.raw(rows[start : start + CHUNK]), self._layout.cells)
            cells = cells[cells > 0]
            smallest = min(smallest, float(cells.min()) if len(cells) else torch.inf)
        return smallest if np.isfinite(smallest) else 1.0

    def _constants(self, rows: Rows, labels: Rows) -> tuple[Tensor, Tensor]:
        """Mean and factor of each input, (width,); inputs that never vary become 0."""
        layout, classes = self._layout, np.unique(labels)
        shift = self._extended(self.raw(rows[:1])).double()  # near the mean: the variance does not cancel
        sums = torch.zeros(len(classes), self.width, dtype=torch.float64, device=self.device)
        squares = torch.zeros_like(sums[0])
        for i, label in enumerate(classes):
            chosen = np.sort(rows[labels == label])
            for start in range(0, len(chosen), CHUNK):
                values = self._extended(self.raw(chosen[start : start + CHUNK])).double() - shift
                sums[i] += values.sum(dim=0)
                squares += (values**2).sum(dim=0)
        mean = sums.sum(dim=0) / len(rows)
        variance = (squares / len(rows) - mean**2).clamp(min=0.0)
        count = torch.as_tensor(np.bincount(np.searchsorted(classes, labels)), device=self.device)
        apart = (sums / count[:, None] - mean).abs() * (count[:, None] / variance.clamp(min=1e-300)).sqrt()
        factor = (apart.amax(dim=0) - 2.0).clamp(min=1.0)
        cells = layout.cells.stop - layout.cells.start
        for group in (layout.cells, slice(layout.width, layout.width + cells)):
            if cells:
                variance[group] = variance[group].mean()
        scale = torch.where(variance > 0, variance.clamp(min=1e-300).rsqrt(), torch.zeros_like(variance))
        return (mean + shift[0]).float(), (factor * scale).float()
