"""Showers: voxel energies on a mesh, their conditions and where they came from, sliced lazily.

Legend: ``N`` showers, ``V`` voxels, ``shape`` the mesh's shape, (Z, P, R), (Z, Y, X) or (V,). Energies: MeV.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.data.chosen import Index, chosen_rows, split_rows
from caloforge.data.conditions import Conditions
from caloforge.data.joint import Cells, cells_of, merged_meshes
from caloforge.data.matching import within
from caloforge.data.particles import pdg_code
from caloforge.data.sources import (
    ArraySource,
    ConcatenatedSource,
    Energies,
    EnergySource,
    SubsetSource,
    as_energies,
    exact_source,
)
from caloforge.detector.mesh import Mesh
from caloforge.errors import DataError

__all__ = ["BATCH", "Showers"]

BATCH = 1000


class Showers:
    """N showers: energies on a mesh, incident conditions and provenance.

    Energies may lie on disk and are read only when asked for: iterate with `batches`, slice, or take
    `energies` for everything at once.

    Args:
        energies: (N, \\*mesh.shape) or (N, V), MeV, or an `EnergySource`.
        conditions: incident conditions of the N showers.
        mesh: the cells; or those of each detector, where several have as many cells of other sizes.
        provenance: what made them; JSON-able.
        extra: further columns, (N, ...), kept with the showers (for example ``geant4_cpu_seconds``).

    Raises:
        DataError: the shapes disagree, or an energy is NaN, infinite or negative.
    """

    def __init__(
        self,
        energies: ArrayLike | EnergySource,
        conditions: Conditions,
        mesh: Mesh | Mapping[str, Mesh],
        provenance: Mapping[str, Any] | None = None,
        extra: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        cells = mesh if isinstance(mesh, Mesh) else cells_of(mesh, conditions.detector)
        a_mesh = cells if isinstance(cells, Mesh) else next(iter(cells.values()))
        self.mesh_shape, self.n_voxels = a_mesh.shape, a_mesh.n_voxels
        if hasattr(energies, "read"):
            source = cast(EnergySource, energies)
        else:
            array = as_energies(energies, "energies")
            if array.ndim == 0 or array.shape[1:] not in (self.mesh_shape, (self.n_voxels,)):
                raise DataError(
                    f"energies of shape {array.shape} do not fit (N, *{self.mesh_shape}) of the {a_mesh}"
                )
            source = ArraySource(array.reshape(len(array), self.n_voxels))
        if len(source) != len(conditions):
            raise DataError(f"{len(source)} showers but conditions for {len(conditions)}")
        self.source = source
        self.conditions = conditions
        self._cells: Cells = cells
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
        if isinstance(self._cells, Mesh):
            return f"<{len(self)} showers on a {self._cells}>"
        shape = " × ".join(map(str, self.mesh_shape))
        return f"<{len(self)} showers in {', '.join(self._cells)}, {shape} cells of other sizes>"

    @property
    def mesh(self) -> Mesh:
        """The cells; DataError for showers of several detectors whose cells differ, see `meshes`."""
        if isinstance(self._cells, Mesh):
            return self._cells
        raise DataError(
            f"the detectors {', '.join(self._cells)} have cells of other sizes; take the showers of one "
            "with filter(detector=...), and keep each detector in a file of its own"
        )

    @property
    def meshes(self) -> dict[str, Mesh]:
        """The cells of each detector that occurs."""
        if isinstance(self._cells, Mesh):
            return dict.fromkeys(sorted(set(self.conditions.detector.tolist())), self._cells)
        return dict(self._cells)

    def require_same_cells(self, other: Showers, what: str) -> None:
        """Raise MeshError unless ``other`` lies on the same cells; it names detectors and what differs."""
        expected, found = (", ".join(filter(None, showers.meshes)) for showers in (self, other))
        names = f" of {found}, not of {expected}" if expected and found and found != expected else ""
        self.mesh.require_same(other.mesh, what + names)

    @property
    def n_bytes(self) -> int:
        """Memory that all energies take, float32."""
        return 4 * len(self) * self.n_voxels

    @property
    def energies(self) -> Energies:
        """All energies, (N, \\*mesh.shape), MeV; reads everything into memory."""
        return self.read(0, len(self))

    def read(self, start: int, stop: int) -> Energies:
        """Energies of showers start..stop − 1, (n, \\*mesh.shape), MeV."""
        start, stop, _ = slice(start, stop).indices(len(self))
        stop = max(start, stop)
        flat = self.source.read(start, stop)
        if flat.shape != (stop - start, self.n_voxels):
            raise DataError(
                f"the source gave energies of shape {flat.shape}, which do not fit cells {self.mesh_shape}"
            )
        return flat.reshape(stop - start, *self.mesh_shape)

    def batches(self, size: int = BATCH) -> Iterator[tuple[Energies, Conditions]]:
        """Energies (n, \\*mesh.shape) and conditions of consecutive showers, n ≤ ``size``."""
        if size < 1:
            raise DataError(f"a batch must have at least 1 shower, got {size}")
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            yield self.read(start, stop), self.conditions[start:stop]

    def __getitem__(self, index: Index) -> Showers:
        """Showers at a slice, an index array or a boolean mask; nothing is read from disk yet."""
        chosen = chosen_rows(index, len(self))
        extra = {name: column[chosen] for name, column in self.extra.items()}
        return Showers(
            SubsetSource(self.source, chosen), self.conditions[chosen], self._cells, self.provenance, extra
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
                keep &= within(column, *span)
        if particle is not None:
            keep &= self.conditions.particle == pdg_code(particle)
        if detector is not None:
            keep &= self.conditions.detector == detector
        return self[keep]

    def split(self, *fractions: float, seed: int | None = None) -> tuple[Showers, ...]:
        """Disjoint parts with the given fractions; a last part takes what is left, if anything.

        ``split(0.8)`` gives two parts. Without a seed the order is kept, with one the showers are shuffled.
        """
        return tuple(self[rows] for rows in split_rows(len(self), fractions, seed))

    def thinned(self, most: int) -> Showers:
        """Every k-th shower, ``most`` at most."""
        return self[:: max(1, -(-len(self) // most))]

    @staticmethod
    def concatenate(parts: Sequence[Showers]) -> Showers:
        """Join showers on the same mesh, in order; only columns of ``extra`` that all parts have are kept."""
        for part in parts[1:]:
            parts[0].require_same_cells(part, "showers to concatenate")
        return Showers.join(parts)

    @staticmethod
    def join(parts: Sequence[Showers]) -> Showers:
        """As `concatenate`, also of detectors whose cells differ in size, to train one model on all of them.

        Slices, splits and filters of the result know the cells of each detector; it has no single `mesh` and
        cannot be written to one file.
        """
        if not parts:
            raise DataError("there is nothing to concatenate")
        first = parts[0]
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
            merged_meshes(part.meshes for part in parts) or first._cells,
            made_by if len(parts) > 1 else first.provenance,
            extra,
        )

    def exact(self) -> Showers:
        """The same showers, whose energies are float64 where their file holds more than single precision."""
        return Showers(exact_source(self.source), self.conditions, self._cells, self.provenance, self.extra)

    def load(self) -> Showers:
        """The same showers with all energies in memory."""
        flat = self.source.read(0, len(self))
        return Showers(ArraySource(flat), self.conditions, self._cells, self.provenance, self.extra)
