"""What is read off the training showers first: the threshold of cells and their largest energies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from caloforge.data.showers import Showers
from caloforge.errors import DataError
from caloforge.models.coordinates.layers import Layers
from caloforge.models.coordinates.standardise import FIT_BATCH

__all__ = ["energy_range", "least_energy"]

BELOW = 1 - 1e-6
"""So that rounding puts no cell under the threshold."""


def least_energy(energies: Iterable[Tensor], name: str = "training showers") -> float:
    """The least energy of a cell that is not empty, MeV: the threshold, where nobody says what it is.

    Args:
        energies: of showers, in batches, (n, \\*shape).
        name: what showers, for the error.

    Raises:
        DataError: all cells are empty.
    """
    lowest = [float(cells[cells > 0].min()) for cells in energies if (cells > 0).any()]
    if not lowest:
        raise DataError(f"all cells of all {name} are empty; there is nothing to learn")
    return min(lowest) * BELOW


def energy_range(showers: Showers) -> tuple[float, Tensor]:
    """`least_energy`, and the largest energy of a cell of each layer, (Z,), MeV, in one reading."""
    layers = Layers.of(showers.mesh)
    largest = torch.zeros(layers.n_layers)

    def batches() -> Iterator[Tensor]:
        for energies, _ in showers.batches(FIT_BATCH):
            cells = layers.split(torch.as_tensor(energies))  # (n, Z, M)
            torch.maximum(largest, cells.amax(dim=(0, 2)), out=largest)
            yield cells

    return least_energy(batches()), largest
