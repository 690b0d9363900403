"""Showers: voxel energies on a mesh, their conditions and where they came from, sliced lazily.

Legend: ``N`` showers, ``V`` voxels, ``shape`` the mesh's shape, (Z, P, R), (Z, Y, X) or (V,). Energies: MeV.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.data.conditions import Conditions, pdg_code
from caloforge.detector.mesh import Mesh
from caloforge.errors import ConditionError, DataError

__all__ = [
    "ArraySource",
    "ConcatenatedSource",
    "EnergySource",
    "Showers",
    "SubsetSource",
    "as_energies",
    "check_energies",
]

Energies = NDArray[np.float32]
BATCH = 1000


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
        pieces = [
            (owner == i, part.take(index[owner == i] - self._starts[i]))
            for i, part in enumerate(self._parts)
            if (owner == i).any()
        ]
        if not pieces:
            return self._parts[0].read(0, 0)
        dtype = np.result_type(*(piece for _, piece in pieces))
        result = np.empty((len(index), pieces[0][1].shape[1]), dtype=dtype)
        for here, piece in pieces:
            result[here] = piece
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


def check_energies(energies: NDArray[Any], name: str, showers: int | NDArray[np.int64]) -> None:
    """Raise DataError where an energy (N, V) is NaN, infinite or negative, naming the shower and voxel.

    ``showers`` numbers the rows for the message: the number of the first one, or all of them, (N,).
    """
    if energies.size and not (energies.min() >= 0 and np.isfinite(energies.max())):
        row, voxel = np.argwhere(~(np.isfinite(energies) & (energies >= 0)))[0]
        shower = showers + row if isinstance(showers, int) else showers[row]
        raise DataError(
            f"{name}: the energy of shower {shower}, voxel {voxel} is {energies[row, voxel]} MeV; energies "
            "must be finite, not negative and within float32. Repair this shower or leave it out."
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
            source = cast(EnergySource, energies)
        else:
            array = as_energies(energies, "energies")
            if array.ndim == 0 or array.shape[1:] not in (mesh.shape, (mesh.n_voxels,)):
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
            if column.shape[:1] != (len(conditions),):
                raise DataError(
                    f"column {name!r} has shape {column.shape} for {len(conditions)} showers; "
                    "its first axis must be the showers"
                )

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
        stop = max(start, stop)
        flat = self.source.read(start, stop)
        if flat.shape != (stop - start, self.mesh.n_voxels):
            raise DataError(
                f"the source gave energies of shape {flat.shape}, which do not fit the {self.mesh}"
            )
        return flat.reshape(stop - start, *self.mesh.shape)

    def batches(self, size: int = BATCH) -> Iterator[tuple[Energies, Conditions]]:
        """Energies (n, \\*mesh.shape) and conditions of consecutive showers, n ≤ ``size``."""
        if size < 1:
            raise DataError(f"a batch must have at least 1 shower, got {size}")
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            yield self.read(start, stop), self.conditions[start:stop]

    def __getitem__(self, index: slice | NDArray[Any] | Sequence[int]) -> Showers:
        """Showers at a slice, an index array or a boolean mask; nothing is read from disk yet."""
        if isinstance(index, slice):
            chosen = np.arange(*index.indices(len(self)))
        else:
            chosen = np.asarray(index)
            if chosen.ndim != 1:
                raise DataError(
                    f"showers are chosen by a slice, a list of numbers or a mask, got {index!r}; "
                    "for a single one use showers[i : i + 1]"
                )
            if chosen.dtype == bool:
                if chosen.shape != (len(self),):
                    raise DataError(
                        f"a mask for {len(self)} showers must have shape ({len(self)},), got {chosen.shape}"
                    )
                chosen = np.flatnonzero(chosen)
            if len(chosen) and chosen.dtype.kind not in "iu":
                raise DataError(f"shower numbers must be whole numbers, got type {chosen.dtype}")
            chosen = chosen.astype(np.int64)
            bad = chosen[(chosen < -len(self)) | (chosen >= len(self))]
            if len(bad):
                raise DataError(f"shower index {bad[0]} is out of range for {len(self)} showers")
            chosen = np.where(chosen < 0, chosen + len(self), chosen)
        extra = {name: column[chosen] for name, column in self.extra.items()}
        return Showers(
            SubsetSource(self.source, chosen), self.conditions[chosen], self.mesh, self.provenance, extra
        )

    def filter(
        self,
        *,
        energy: tuple[float, float] | None = None,
        theta: tuple[float, float] | None = None,
        phi: tuple[float, float] | None = None,
        particle: str | int | None = None,
        detector: str | None = None,
    ) -> Showers:
        """The showers whose conditions lie in the half-open ranges [low, high) given, MeV and rad.

        ``particle`` is a Geant4 name or PDG code. None that fit is no error: the result is empty.
        """
        keep = np.ones(len(self), dtype=bool)
        for column, span in (
            (self.conditions.energy, energy),
            (self.conditions.theta, theta),
            (self.conditions.phi, phi),
        ):
            if span is not None:
                keep &= (column >= span[0]) & (column < span[1])
        if particle is not None:
            keep &= self.conditions.particle == pdg_code(particle)
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
        """Join showers on the same mesh, in order; only columns of ``extra`` that all parts have are kept."""
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
            ConcatenatedSource([part.source for part in parts]),
            Conditions.concatenate([part.conditions for part in parts]),
            first.mesh,
            made_by if len(parts) > 1 else first.provenance,
            extra,
        )

    def exact(self) -> Showers:
        """The same showers, whose energies are float64 where their file holds more than single precision."""
        return Showers(exact_source(self.source), self.conditions, self.mesh, self.provenance, self.extra)

    def load(self) -> Showers:
        """The same showers with all energies in memory."""
        flat = self.source.read(0, len(self))
        return Showers(ArraySource(flat), self.conditions, self.mesh, self.provenance, self.extra)
