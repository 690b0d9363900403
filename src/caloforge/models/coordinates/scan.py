"""What is read off the training showers first: the threshold of cells and their largest energies."""

from __future__ import annotations

import torch
from torch import Tensor

from caloforge.data.showers import Showers
from caloforge.errors import DataError
from caloforge.models.coordinates.layers import Layers
from caloforge.models.coordinates.standardise import FIT_BATCH

__all__ = ["energy_range", "least_energy"]

BELOW = 1 - 1e-6
"""So that rounding puts no cell under the threshold."""


def energy_range(showers: Showers, layers: Layers, name: str = "training showers") -> tuple[float, Tensor]:
    """The least energy of a cell that is not empty, MeV, and the largest of each layer, (Z,), MeV.

    The first is the threshold where nobody says what it is, by a hair lower.

    Raises:
        DataError: all cells are empty; ``name`` says of which showers.
    """
    lowest, largest = [], torch.zeros(layers.n_layers)
    for energies, _ in showers.batches(FIT_BATCH):
        lit = energies[energies > 0]
        lowest += [float(lit.min())] if len(lit) else []
        cells = layers.split(torch.as_tensor(energies))  # (n, Z, M)
        largest = torch.maximum(largest, cells.amax(dim=(0, 2)))
    if not lowest:
        raise DataError(f"all cells of all {name} are empty; there is nothing to learn")
    return min(lowest) * BELOW, largest


def least_energy(showers: Showers, name: str = "training showers") -> float:
    """The first of `energy_range`."""
    return energy_range(showers, Layers.of(showers.mesh), name)[0]
