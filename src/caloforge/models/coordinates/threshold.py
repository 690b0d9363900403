"""The threshold of cells, where nobody says what it is."""

from __future__ import annotations

from caloforge.data.showers import Showers
from caloforge.errors import DataError

__all__ = ["least_energy"]

BATCH = 500
BELOW = 1 - 1e-6
"""So that rounding puts no cell under the threshold."""


def least_energy(showers: Showers) -> float:
    """The least energy of a cell that is not empty, MeV.

    Raises:
        DataError: all cells are empty.
    """
    lowest = [float(e[e > 0].min()) for e, _ in showers.batches(BATCH) if (e > 0).any()]
    if not lowest:
        raise DataError("all cells of all training showers are empty; there is nothing to learn")
    return min(lowest) * BELOW
