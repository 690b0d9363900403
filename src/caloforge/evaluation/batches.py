"""Rows of a classifier's inputs as tensors, standardised where that is asked for.

Legend: ``n`` rows, ``D`` inputs, of which ``C`` are cells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

__all__ = ["Batches"]

CHUNK = 500


class Batches:
    """Turns row numbers into inputs of a network, (n, D) or, where cells are standardised, (n, D + C).

    Standardised, an input that is not a cell gets mean 0 and standard deviation 1. Cells get mean 0 each but
    share one scale, so that noise in rarely hit cells is not blown up, and come a second time as
    log(1 + x / q), where q is the smallest value above zero in real showers: sums of energies are easy to see
    in the first, which cells are hit in the second. All constants come from the training rows alone.

    Args:
        inputs: (N, D).
        cells: columns of the inputs that are cells.
        train: rows to take the constants from; None leaves the inputs as they are.
        n_real: rows before this one are real showers.
        device: of the tensors.
    """

    def __init__(
        self,
        inputs: NDArray[np.float32],
        cells: slice,
        train: NDArray[np.int64] | None,
        n_real: int,
        device: torch.device,
    ) -> None:
        self._inputs, self._cells, self._device = inputs, cells, device
        self._smallest: float | None = None
        self._shift_and_scale: tuple[torch.Tensor, torch.Tensor] | None = None
        if train is not None:
            rows = np.sort(train)
            if cells.stop > cells.start:
                self._smallest = self._smallest_cell(rows[rows < n_real])
            self._shift_and_scale = self._moments(rows)

    @property
    def width(self) -> int:
        """Number of inputs of the network."""
        extra = 0 if self._smallest is None else int(self._cells.stop - self._cells.start)
        return int(self._inputs.shape[1]) + extra

    def __call__(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """Inputs of the network for these rows, (n, width)."""
        values = self._extended(rows)
        if self._shift_and_scale is None:
            return values
        shift, scale = self._shift_and_scale
        return (values - shift) * scale

    def _extended(self, rows: NDArray[np.int64]) -> torch.Tensor:
        import torch

        values = torch.from_numpy(self._inputs[rows]).to(self._device)
        if self._smallest is None:
            return values
        return torch.cat([values, torch.log1p(values[:, self._cells] / self._smallest)], dim=1)

    def _smallest_cell(self, rows: NDArray[np.int64]) -> float:
        smallest = np.inf
        for start in range(0, len(rows), CHUNK):
            cells = self._inputs[rows[start : start + CHUNK], self._cells]
            smallest = float(np.min(cells, where=cells > 0, initial=smallest))
        return smallest if np.isfinite(smallest) else 1.0

    def _moments(self, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and 1 / standard deviation of each input, (width,); inputs that never vary become 0."""
        import torch

        total = torch.zeros(2, self.width, dtype=torch.float64, device=self._device)
        shift = self._extended(rows[:1]).double()  # near the mean, so that the variance does not cancel
        for start in range(0, len(rows), CHUNK):
            values = self._extended(rows[start : start + CHUNK]).double() - shift
            total += torch.stack([values.sum(dim=0), (values**2).sum(dim=0)])
        mean, square = total / len(rows)
        variance = (square - mean**2).clamp(min=0.0)
        for group in (self._cells, slice(self._inputs.shape[1], None)):
            if self._smallest is not None:
                variance[group] = variance[group].mean()
        scale = torch.where(variance > 0, variance.clamp(min=1e-300).rsqrt(), torch.zeros_like(variance))
        return (mean + shift[0]).float(), scale.float()
