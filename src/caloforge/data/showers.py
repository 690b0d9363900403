"""Showers: voxel energies on a mesh, their conditions and where they came from, sliced lazily.

Legend: ``N`` showers, ``V`` voxels, ``shape`` the mesh's shape, (Z, P, R), (Z, Y, X) or (V,). Energies are MeV.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.data.conditions import Conditions
from caloforge.detector.mesh import Mesh
from caloforge.errors import ConditionError, DataError

__all__ = ["ArraySource", "EnergySource", "Showers"]

Energies = NDArray[np.float32]
BATCH = 1000


class EnergySource(Protocol):
    """Where energies come from: an array in memory or a data set on disk that is read in slices."""

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> Energies:
        """Energies of showers start..stop − 1: (stop − start, V), float32, MeV, checked."""
        ...

    def take(self, index: NDArray[np.int64]) -> Energies:
        """Energies of the showers in ``index``, in its order: (len(index), V)."""
        ...


class ArraySource:
    """Energies in memory, (N, V)."""

    def __init__(self, energies: Energies, name: str = "energies") -> None:
        self._energies = energies
        check_energies(energies, name, 0)

    def __len__(self) -> int:
        return len(self._energies)

    def read(self, start: int, stop: int) -> Energies:
        return self._energies[start:stop]

    def take(self, index: NDArray[np.int64]) -> Energies:
        return self._energies[index]


class _Subset:
    """Showers ``index`` of another source."""

    def __init__(self, parent: EnergySource, index: NDArray[np.int64]) -> None:
        self._parent, self._index = parent, index

    def __len__(self) -> int:
        return len(self._index)

    def read(self, start: int, stop: int) -> Energies:
        index = self._index[start:stop]
        if len(index) and index[-1] - index[0] + 1 == len(index) and (np.diff(index) == 1).all():
            return self._parent.read(int(index[0]), int(index[-1]) + 1)
        return self._parent.take(index)

    def take(self, index: NDArray[np.int64]) -> Energies:
        return self._parent.take(self._index[index])


class _Concatenation:
    """Several sources one after the other."""

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
        result: Energies | None = None
        for i, part in enumerate(self._parts):
            here = owner == i
            if here.any():
                piece = part.take(index[here] - self._starts[i])
                if result is None:
                    result = np.empty((len(index), piece.shape[1]), dtype=np.float32)
                result[here] = piece
        return self._parts[0].read(0, 0) if result is None else result


def check_energies(energies: NDArray[Any], name: str, first: int) -> None:
    """Raise DataError where an energy (N, V) is NaN, infinite or negative, naming the shower and voxel."""
    if energies.size and not (energies.min() >= 0 and np.isfinite(energies.max())):
        shower, voxel = np.argwhere(~(np.isfinite(energies) & (energies >= 0)))[0]
        value = energies[shower, voxel]
        raise DataError(
            f"{name}: the energy of shower {first + shower}, voxel {voxel} is {value} MeV; "
            "energies must be finite and not negative. Repair or drop this shower."
        )


class Showers:
    """N showers: energies on a mesh, incident conditions and provenance.

    Energies may lie on disk and are read only when asked for: iterate with `batches`, slice, or take
    `energies` for everything at once.

    Args:
        energies: (N, \\*mesh.shape) or (N, V), MeV, or an `EnergySource`.
        conditions: incident conditions of the N showers.
        mesh: the cells.
        provenance: what made them; JSON-able.
        extra: further columns, (N, ...), kept with the showers (for example ``geant4_cpu_seconds``).

    Raises:
        DataError: the shapes disagree, or an energy is NaN, infinite or negative.
    """

    def __init__(
        self,
        energies: ArrayLike | EnergySource,
        conditions: Conditions,
        mesh: Mesh,
        provenance: Mapping[str, Any] | None = None,
        extra: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        if hasattr(energies, "read"):
            source: EnergySource = energies
        else:
            array = np.asarray(energies, dtype=np.float32)
            if array.shape[1:] not in (mesh.shape, (mesh.n_voxels,)):
                raise DataError(
                    f"energies of shape {array.shape} do not fit (N, *{mesh.shape}) of the {mesh}"
                )
            source = ArraySource(array.reshape(len(array), mesh.n_voxels))
        if len(source) != len(conditions):
            raise DataError(f"{len(source)} showers but conditions for {len(conditions)}")
        self.source = source
        self.conditions = conditions
        self.mesh = mesh
        self.provenance: dict[str, Any] = dict(provenance or {})
        self.extra: dict[str, NDArray[Any]] = {
            name: np.asarray(column) for name, column in (extra or {}).items()
        }
        for name, column in self.extra.items():
            if len(column) != len(conditions):
                raise DataError(f"column {name!r} has {len(column)} rows for {len(conditions)} showers")

    def __len__(self) -> int:
        return len(self.conditions)

    def __repr__(self) -> str:
        return f"<{len(self)} showers on a {self.mesh}>"

    @property
    def energies(self) -> Energies:
        """All energies, (N, \\*mesh.shape), MeV; reads everything into memory."""
        return self.read(0, len(self))

    def read(self, start: int, stop: int) -> Energies:
        """Energies of showers start..stop − 1, (n, \\*mesh.shape), MeV."""
        start, stop, _ = slice(start, stop).indices(len(self))
        return self.source.read(start, max(start, stop)).reshape(-1, *self.mesh.shape)

    def batches(self, size: int = BATCH) -> Iterator[tuple[Energies, Conditions]]:
        """Energies (n, \\*mesh.shape) and conditions of consecutive showers, n ≤ ``size``, from disk as needed."""
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            yield self.read(start, stop), self.conditions[start:stop]

    def __getitem__(self, index: slice | NDArray[Any] | Sequence[int]) -> Showers:
        """Showers at a slice, an index array or a boolean mask; nothing is read from disk yet."""
        if isinstance(index, slice):
            chosen = np.arange(*index.indices(len(self)))
        else:
            chosen = np.asarray(index)
            if chosen.dtype == bool:
                if chosen.shape != (len(self),):
                    raise DataError(
                        f"a mask for {len(self)} showers must have shape ({len(self)},), got {chosen.shape}"
                    )
                chosen = np.flatnonzero(chosen)
            chosen = chosen.astype(np.int64)
            if len(chosen) and (chosen.min() < -len(self) or chosen.max() >= len(self)):
                raise DataError(f"shower index {int(chosen.max())} is out of range for {len(self)} showers")
            chosen = np.where(chosen < 0, chosen + len(self), chosen)
        extra = {name: column[chosen] for name, column in self.extra.items()}
        return Showers(
            _Subset(self.source, chosen), self.conditions[chosen], self.mesh, self.provenance, extra
        )

    def filter(
        self,
        *,
        energy: tuple[float, float] | None = None,
        theta: tuple[float, float] | None = None,
        phi: tuple[float, float] | None = None,
        detector: str | None = None,
    ) -> Showers:
        """The showers whose conditions lie in the half-open ranges [low, high) given, MeV and rad."""
        keep = np.ones(len(self), dtype=bool)
        for column, span in (
            (self.conditions.energy, energy),
            (self.conditions.theta, theta),
            (self.conditions.phi, phi),
        ):
            if span is not None:
                keep &= (column >= span[0]) & (column < span[1])
        if detector is not None:
            keep &= self.conditions.detector == detector
        return self[keep]

    def split(self, *fractions: float, seed: int | None = None) -> tuple[Showers, ...]:
        """Disjoint parts with the given fractions; a last part takes what is left, if anything.

        ``split(0.8)`` gives two parts. Without a seed the order is kept, with one the showers are shuffled.
        """
        if not fractions or min(fractions) <= 0 or sum(fractions) > 1 + 1e-9:
            raise ConditionError(f"fractions must be positive and sum to at most 1, got {fractions}")
        n = len(self)
        order = np.arange(n) if seed is None else np.random.default_rng(seed).permutation(n)
        stops = [round(n * f) for f in np.cumsum(fractions)]
        if stops[-1] < n and sum(fractions) < 1 - 1e-9:
            stops.append(n)
        return tuple(self[np.sort(order[a:b])] for a, b in zip([0, *stops[:-1]], stops, strict=True))

    @staticmethod
    def concatenate(parts: Sequence[Showers]) -> Showers:
        """Join showers on the same mesh, in order; columns in ``extra`` that all have are kept."""
        if not parts:
            raise DataError("there is nothing to concatenate")
        first = parts[0]
        for part in parts[1:]:
            first.mesh.require_same(part.mesh, "showers to concatenate")
        common = set(first.extra).intersection(*(part.extra for part in parts))
        extra = {
            name: np.concatenate([part.extra[name] for part in parts])
            for name in first.extra
            if name in common
        }
        made_by = {"action": "concatenate", "parts": [part.provenance for part in parts]}
        return Showers(
            _Concatenation([part.source for part in parts]),
            Conditions.concatenate([part.conditions for part in parts]),
            first.mesh,
            made_by if len(parts) > 1 else first.provenance,
            extra,
        )

    def load(self) -> Showers:
        """The same showers with all energies in memory."""
        flat = self.source.read(0, len(self))
        return Showers(ArraySource(flat), self.conditions, self.mesh, self.provenance, self.extra)
