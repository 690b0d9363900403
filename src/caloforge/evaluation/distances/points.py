"""Showers as points of whole numbers, between which distances are exact and quick.

Legend: ``N`` showers, ``V`` voxels. Coordinates are rounded to whole numbers n = 128 h + l with h and l in
[−64, 63], so that h, l and h + l fit into 8 bits. Three products of 8-bit matrices then give the scalar
product,

    Σ n n' = 128² Σ h h' + 128 [Σ (h + l)(h' + l') − Σ h h' − Σ l l'] + Σ l l',

without any rounding, which processors with VNNI do 2.6 times as fast as one product in single precision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Showers
from caloforge.evaluation.features import batch_rows
from caloforge.runtime.processor import cpu_flags

if TYPE_CHECKING:
    import torch

__all__ = ["Points", "Space", "log_energies", "root_fractions"]

LOWEST, HIGHEST = -64 * 128 - 64, 63 * 128 + 63
Cells = NDArray[np.float32]


@dataclass(frozen=True)
class Space:
    """What the coordinates of a shower are.

    Attributes:
        name: in words.
        coordinates: from cells (n, V), MeV, and incident energies (n,), MeV, to coordinates (n, V), where an
            empty cell is 0.
        steps: whole numbers per unit.
    """

    name: str
    coordinates: Callable[[Cells, NDArray[np.float64]], Cells]
    steps: int


def _log(cells: Cells, energy: NDArray[np.float64]) -> Cells:
    return np.log10(np.where(cells > 0, cells, np.float32(0.1))) + np.float32(1)


def _root(cells: Cells, energy: NDArray[np.float64]) -> Cells:
    return np.sqrt(cells / energy[:, None].astype(np.float32))


log_energies = Space("log₁₀ of the cell energies in MeV, empty cells as 0.1 MeV", _log, 1024)
"""As in the CaloChallenge. Shifted by one, so that empty cells are 0; 10⁻⁹-10⁷ MeV in steps of 0.2 %."""

root_fractions = Space("square roots of cell energies over the incident energy", _root, 4096)
"""In which a cell's own fluctuations are about equally large whatever its energy."""


class Points:
    """N showers as whole numbers, (N, V), held as two 8-bit matrices.

    Args:
        showers: read in batches.
        space: the coordinates.
        rows: showers to take, in this order; all by default.

    Attributes:
        outside: cells that the range of whole numbers does not hold, which got its ends.
    """

    def __init__(self, showers: Showers, space: Space, rows: NDArray[np.int64] | None = None) -> None:
        import torch

        chosen = showers if rows is None else showers[rows]
        n_voxels = showers.mesh.n_voxels
        self.steps, self.outside = space.steps, 0
        self._high = torch.empty((len(chosen), n_voxels), dtype=torch.int8)
        self._low = torch.empty_like(self._high)
        self._squares = torch.empty(len(chosen), dtype=torch.float64)
        start = 0
        for energies, conditions in chosen.batches(batch_rows(n_voxels)):
            cells = energies.reshape(len(energies), n_voxels)
            values = np.rint(space.coordinates(cells, conditions.energy) * np.float32(space.steps))
            self.outside += int(np.count_nonzero((values < LOWEST) | (values > HIGHEST)))
            whole = torch.from_numpy(np.clip(values, LOWEST, HIGHEST).astype(np.int16))
            stop = start + len(whole)
            high = (whole + 64) >> 7
            self._high[start:stop] = high
            self._low[start:stop] = whole - (high << 7)
            self._squares[start:stop] = whole.double().square().sum(dim=1)
            start = stop

    def __len__(self) -> int:
        return len(self._high)

    def squared_distances(
        self, rows: slice | NDArray[np.int64], other: Points, columns: slice
    ) -> torch.Tensor:
        """|n − n'|² between showers of this and of another, (rows, columns), float64, exact where VNNI is."""
        a, b = self._high[rows], other._high[columns]
        c, d = self._low[rows], other._low[columns]
        high, low = _product(a, b), _product(c, d)
        cross = _product(a + c, b + d) - high - low
        product = high.double().mul_(128**2).add_(cross, alpha=128).add_(low)
        return product.mul_(-2).add_(self._squares[rows, None]).add_(other._squares[None, columns])


def _product(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """first @ second.T of 8-bit matrices."""
    import torch

    if _has_vnni():
        return torch._int_mm(first, second.T)
    return (first.float() @ second.float().T).double()


def _has_vnni() -> bool:
    """Whether the processor multiplies 8-bit matrices natively."""
    return bool({"avx512_vnni", "avx_vnni"} & cpu_flags())
