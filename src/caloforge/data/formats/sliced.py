"""Energies of files that are read in slices of rows, whatever the file is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.data.formats.hdf5 import StoredRows
from caloforge.data.sources import Energies, as_energies, check_energies
from caloforge.errors import DataError

__all__ = ["SlicedSource", "on_cells"]

ROWS = 256
"""Rows that are read together where single ones are wanted."""


class SlicedSource(StoredRows, ABC):
    """An `EnergySource` whose subclass reads slices."""

    @abstractmethod
    def _slice(self, start: int, stop: int) -> NDArray[np.float32]:
        """Energies (stop − start, V), MeV, as they are stored; DataError where they are unreadable."""

    def read(self, start: int, stop: int) -> Energies:
        """As `EnergySource.read`."""
        energies = np.ascontiguousarray(as_energies(self._slice(start, stop), str(self.path)))
        check_energies(energies, str(self.path), start)
        return energies

    def take(self, index: NDArray[np.int64]) -> Energies:
        """As `EnergySource.take`; reads each part that holds wanted showers once."""
        if not len(index):
            return self.read(0, 0)
        unique, inverse = np.unique(index, return_inverse=True)
        parts = np.split(unique, np.flatnonzero(np.diff(unique // ROWS)) + 1)
        blocks = [self.read(int(part[0]), int(part[-1]) + 1)[part - part[0]] for part in parts]
        return np.concatenate(blocks)[inverse]


def on_cells(
    path: Path, row: NDArray[Any], cell: NDArray[Any], energy: NDArray[Any], shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Energies (n, V) of hits, those in one cell added up; DataError where there is no such cell."""
    outside = cell[(cell < 0) | (cell >= shape[1])]
    if len(outside):
        raise DataError(f"{path}: a hit is in cell {outside[0]}, and the mesh has {shape[1]:,}")
    places = row.astype(np.int64) * shape[1] + cell
    summed = np.bincount(places, weights=energy, minlength=shape[0] * shape[1])
    return summed.reshape(shape).astype(np.float32)
