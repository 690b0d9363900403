"""Reading slices of an HDF5 data set, with errors that name the file, the data set and the index."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from caloforge.data.showers import Energies, check_energies
from caloforge.errors import DataError

__all__ = ["HDF5Source", "open_file", "read_column"]

Convert = Callable[[NDArray[Any]], NDArray[Any]]


def open_file(path: Path) -> h5py.File:
    """Open an HDF5 file for reading; DataError where it is missing, truncated or not HDF5."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(
            f"{path}: not a readable HDF5 file ({error}); it may be truncated, get it again"
        ) from error


def read_column(file: h5py.File, name: str, index: slice = slice(None)) -> NDArray[Any]:
    """A whole (small) data set; DataError where it is missing or unreadable."""
    if name not in file:
        raise DataError(f"{file.filename}: no data set {name!r}; it has {', '.join(sorted(file))}")
    try:
        return np.asarray(file[name][index])
    except OSError as error:
        raise DataError(
            f"{file.filename}: data set {name!r} is unreadable ({error}); get the file again"
        ) from error


class HDF5Source:
    """Energies in one data set of a file, converted at the door.

    The file is opened on first use in each process, so that a source can be sent to worker processes.

    Args:
        path: the file.
        data_set: name of the data set, (N, ...).
        n: number of showers.
        convert: maps what is stored, (n, ...), to energies (n, V) in MeV and the order of the mesh.
    """

    def __init__(self, path: Path, data_set: str, n: int, convert: Convert | None = None) -> None:
        self.path, self.data_set = path, data_set
        self._n, self._convert = n, convert
        self._file: h5py.File | None = None

    def __len__(self) -> int:
        return self._n

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None}

    def _stored(self) -> h5py.Dataset:
        if self._file is None:
            self._file = open_file(self.path)
        return self._file[self.data_set]

    def _checked(self, stored: NDArray[Any], first: int) -> Energies:
        converted = stored if self._convert is None else self._convert(stored)
        energies = np.ascontiguousarray(converted, dtype=np.float32).reshape(len(stored), -1)
        check_energies(energies, f"{self.path}, data set {self.data_set!r}", first)
        return energies

    def read(self, start: int, stop: int) -> Energies:
        try:
            stored = self._stored()[start:stop]
        except OSError as error:
            raise DataError(
                f"{self.path}, data set {self.data_set!r}: showers {start}-{stop - 1} are unreadable ({error}); "
                "the file is damaged, get it again"
            ) from error
        return self._checked(stored, start)

    def take(self, index: NDArray[np.int64]) -> Energies:
        if not len(index):
            return self.read(0, 0)
        # h5py wants increasing indices without repeats; whole runs are read at once, since that is fastest
        unique, inverse = np.unique(index, return_inverse=True)
        breaks = np.flatnonzero(np.diff(unique) > 64) + 1
        pieces = []
        for run in np.split(unique, breaks):
            block = self.read(int(run[0]), int(run[-1]) + 1)
            pieces.append(block[run - run[0]])
        return np.concatenate(pieces)[inverse]
