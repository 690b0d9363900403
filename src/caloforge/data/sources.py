"""Where the energies of showers come from: arrays, files read in slices, and parts and sums of those.

Legend: ``N`` showers, ``V`` voxels. Energies: MeV.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.errors import DataError

__all__ = [
    "ArraySource",
    "ConcatenatedSource",
    "Energies",
    "EnergySource",
    "SubsetSource",
    "as_energies",
    "check_energies",
    "exact_source",
    "illegal_energy",
]

Energies = NDArray[np.float32]
LARGEST = np.finfo(np.float32).max


class EnergySource(Protocol):
    """Where energies come from: an array in memory or a data set on disk that is read in slices.

    One whose file may hold more than single precision also has ``exact()``: the same showers in float64 then.
    """

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> Energies:
        """Energies of showers start..stop − 1: (stop − start, V), float32, MeV, checked."""
        ...

    def take(self, index: NDArray[np.int64]) -> Energies:
        """Energies of the showers in ``index``, in its order: (len(index), V)."""
        ...


class ArraySource:
    """Energies in memory, (N, V); ``checked`` where they are known to be legal."""

    def __init__(self, energies: Energies, name: str = "energies", *, checked: bool = False) -> None:
        self._energies = energies
        if not checked:
            check_energies(energies, name, 0)

    def __len__(self) -> int:
        return len(self._energies)

    def read(self, start: int, stop: int) -> Energies:
        return self._energies[start:stop]

    def take(self, index: NDArray[np.int64]) -> Energies:
        return self._energies[index]


class SubsetSource:
    """Showers ``index`` of another source; a subset of a subset refers to the first source."""

    def __init__(self, parent: EnergySource, index: NDArray[np.int64]) -> None:
        self._parent: EnergySource = parent._parent if isinstance(parent, SubsetSource) else parent
        self._index: NDArray[np.int64] = parent._index[index] if isinstance(parent, SubsetSource) else index

    def __len__(self) -> int:
        return len(self._index)

    def read(self, start: int, stop: int) -> Energies:
        """As `EnergySource.read`; what is contiguous in the parent is read as one slice."""
        index = self._index[start:stop]
        if len(index) and index[-1] - index[0] + 1 == len(index) and (np.diff(index) == 1).all():
            return self._parent.read(int(index[0]), int(index[-1]) + 1)
        return self._parent.take(index)

    def take(self, index: NDArray[np.int64]) -> Energies:
        return self._parent.take(self._index[index])

    def exact(self) -> SubsetSource:
        return SubsetSource(exact_source(self._parent), self._index)


class ConcatenatedSource:
    """Several sources with the same voxels, one after the other."""

    def __init__(self, parts: Sequence[EnergySource]) -> None:
        self._parts = parts
        self._starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, start: int, stop: int) -> Energies:
        pieces = []
        for part, first in zip(self._parts, self._starts, strict=False):
            low, high = max(start - first, 0), min(stop - first, len(part))
            if low < high:
                pieces.append(part.read(int(low), int(high)))
        if not pieces:
            return self._parts[0].read(0, 0)
        return np.concatenate(pieces) if len(pieces) > 1 else pieces[0]

    def take(self, index: NDArray[np.int64]) -> Energies:
        owner = np.searchsorted(self._starts, index, side="right") - 1
        owners = np.unique(owner).tolist()
        if len(owners) < 2:
            part = owners[0] if owners else 0
            return self._parts[part].take(index - self._starts[part])
        result: Energies | None = None
        for i in owners:  # one at a time, so that no second copy of all is held
            here = owner == i
            piece = self._parts[i].take(index[here] - self._starts[i])
            if result is None:
                result = np.empty((len(index), piece.shape[1]), dtype=piece.dtype)
            result = result.astype(np.result_type(result, piece), copy=False)
            result[here] = piece
        assert result is not None
        return result

    def exact(self) -> ConcatenatedSource:
        return ConcatenatedSource([exact_source(part) for part in self._parts])


def exact_source(source: EnergySource) -> EnergySource:
    """The source that gives the same energies in float64 where more than single precision is stored."""
    exact = getattr(source, "exact", None)
    return source if exact is None else cast(EnergySource, exact())


def as_energies(values: ArrayLike, name: str, dtype: type[np.floating] = np.float32) -> Energies:
    """The values as float32 or ``dtype``; DataError where they are no numbers. Too large ones become inf."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise DataError(f"{name}: energies must be real numbers, got data of type {array.dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        return cast(Energies, array.astype(dtype, copy=False))


def illegal_energy(energies: NDArray[Any]) -> tuple[int, int] | None:
    """Row and voxel of the first energy (N, V) that is NaN, infinite or negative, or None."""
    if not energies.size or (energies.min() >= 0 and energies.max() <= LARGEST):
        return None
    row, voxel = np.argwhere(~((energies >= 0) & (energies <= LARGEST)))[0]
    return int(row), int(voxel)


def check_energies(energies: NDArray[Any], name: str, showers: int | NDArray[np.int64]) -> None:
    """Raise DataError where an energy (N, V) is NaN, infinite or negative, naming the shower and voxel.

    ``showers`` numbers the rows for the message: the number of the first one, or all of them, (N,).
    """
    if (found := illegal_energy(energies)) is not None:
        row, voxel = found
        shower = showers + row if isinstance(showers, int) else showers[row]
        raise DataError(
            f"{name}: the energy of shower {shower}, voxel {voxel} is {energies[row, voxel]} MeV; energies "
            "must be finite, not negative and within float32. Repair this shower or leave it out."
        )
