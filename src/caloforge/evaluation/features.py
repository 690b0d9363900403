"""High-level features of showers, as the CaloChallenge defines them (arXiv:2410.21611).

Legend: ``N`` showers, ``n`` of them in a batch, ``V`` voxels, ``Z`` layers, ``C`` cells in the largest layer,
``L`` lateral layers (those that tell directions apart). Energies are MeV, lengths mm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Conditions, Showers
from caloforge.detector import Mesh
from caloforge.errors import MeshError
from caloforge.evaluation.tables import MEMORY_LIMIT, allocate

__all__ = ["EPSILON", "FeatureMaker", "Features", "Visitor", "batch_rows", "compute_features", "read_ahead"]

EPSILON = 1e-16
"""Added to every denominator, as in the challenge: a layer without energy has centre and width 0."""

Floats = NDArray[np.float64]
Visitor = Callable[[int, NDArray[np.float32], Conditions], None]
"""Sees every batch once: number of its first shower, energies (n, V), conditions of the n showers."""

_BATCH_BYTES = 32 << 20


def batch_rows(n_voxels: int) -> int:
    """Showers read at once, so that a batch takes about 32 MiB in double precision."""
    return int(np.clip(_BATCH_BYTES // (8 * n_voxels), 16, 4096))


@dataclass(frozen=True, eq=False)
class Features:
    """Features of N showers in double precision: many lie exactly on the edges of the field's bins.

    (A sparsity of 1 − k/900 does, or the centre of a layer that is hit once, at x = 0; single precision would
    put them into another bin than the definitions do.) Arrays per layer are views, contiguous along N.

    Attributes:
        mesh: the cells.
        incident_energy: MeV, (N,).
        e_total: Σ E, MeV, (N,).
        e_layer: Σ E in each layer, MeV, (N, Z).
        sparsity: 1 − fraction of cells with energy, (N, Z).
        centre: by axis, EC = Σ x·E / (Σ E + ε), mm; axes of the plane are (N, L), ``r`` is (N, Z).
        width: by axis, √max(0, Σ x²·E / (Σ E + ε) − EC²), mm, of the same shapes.
        lateral: positions of the lateral layers among the Z, (L,).
    """

    mesh: Mesh
    incident_energy: Floats
    e_total: Floats
    e_layer: Floats
    sparsity: Floats
    centre: dict[str, Floats]
    width: dict[str, Floats]
    lateral: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.e_total)

    @property
    def plane(self) -> tuple[str, str]:
        """Names of the two axes across the shower: eta and phi for cylinders, x and y for boxes."""
        first, second, _ = self.centre
        return first, second

    @property
    def e_ratio(self) -> Floats:
        """E_tot / E_inc, (N,)."""
        return self.e_total / self.incident_energy

    def layers_of(self, group: str) -> tuple[int | None, ...]:
        """The detector's numbers of the layers in a group's columns; (None,) for whole-shower features."""
        numbers = self.mesh.layer_numbers
        if group == "e_ratio":
            return (None,)
        if group.endswith(self.plane):
            return tuple(numbers[i] for i in self.lateral)
        return tuple(numbers)

    def groups(self) -> dict[str, Floats]:
        """All features by group, each (N, columns); the columns' layers are `layers_of` the group."""
        first, second = self.plane
        return {
            "e_ratio": self.e_ratio[:, None],
            "e_layer": self.e_layer,
            "sparsity": self.sparsity,
            **{f"ec_{axis}": self.centre[axis] for axis in (first, second, "r")},
            **{f"width_{axis}": self.width[axis] for axis in (first, second, "r")},
        }

    def columns(self) -> dict[str, Floats]:
        """Every feature by name (``e_ratio``, ``ec_eta_12``, …), each (N,)."""
        return {
            group if layer is None else f"{group}_{layer}": values[:, i]
            for group, values in self.groups().items()
            for i, layer in enumerate(self.layers_of(group))
        }


class FeatureMaker:
    """Turns batches of energies into moments by one matrix product a layer, all layers at once.

    Every layer is seen as C cells (smaller layers are padded with cells that are never hit); the moments
    1, x, x², y, y², r, r² of all layers are then a batched product (Z, n, C) × (Z, C, 7).
    """

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        centres, sizes = mesh.centres(), np.asarray(mesh.layer_sizes)
        x, y = centres["x"], centres["y"]
        r = centres["r"] if "r" in centres else np.hypot(x, y)
        self.axes = ("eta", "phi", "r") if "phi" in centres else ("x", "y", "r")
        directions = (centres["phi"],) if "phi" in centres else (x, y)
        starts = mesh.layer_offsets[:-1]
        spread = [np.maximum.reduceat(d, starts) - np.minimum.reduceat(d, starts) for d in directions]
        self.lateral = np.flatnonzero(np.max(spread, axis=0) > 0)
        self._sizes = sizes.astype(np.float64)
        widest = int(sizes.max())
        self._shape = (len(sizes), widest)
        self._slots: NDArray[np.int64] | None = None
        if (sizes != widest).any():  # voxel V is the padding, always 0
            place = np.arange(widest)
            slots = np.where(place < sizes[:, None], starts[:, None] + place, mesh.n_voxels)
            self._slots = slots.ravel()
        moments = np.stack([np.ones_like(x), x, x**2, y, y**2, r, r**2], axis=-1)
        self._weights = self._padded(moments.T).reshape(7, *self._shape).transpose(1, 2, 0).copy()

    def _padded(self, values: NDArray[np.generic]) -> Floats:
        """Values (n, V) as (n, Z·C), float64."""
        if self._slots is None:
            return values.astype(np.float64)
        extended = np.zeros((len(values), self.mesh.n_voxels + 1))
        extended[:, :-1] = values
        return extended[:, self._slots]

    def __call__(self, energies: NDArray[np.floating], incident_energy: Floats) -> Features:
        """Features of energies (n, V) or (n, \\*mesh.shape)."""
        flat = energies.reshape(len(energies), self.mesh.n_voxels)
        features = self.empty(len(flat))
        self.fill(features, slice(None), flat, incident_energy)
        return features

    def empty(self, n: int, memory_limit: int | None = None) -> Features:
        """Features of n showers, to be filled; all arrays are views of one table (columns, n).

        Raises:
            DataError: the table is larger than ``memory_limit`` bytes and the temporary folder is full.
        """
        z, lateral = self.mesh.n_layers, len(self.lateral)
        widths = [1, 1, z, z, *2 * (lateral, lateral, z)]
        table = allocate(sum(widths), n, memory_limit)
        parts = iter(np.split(table, np.cumsum(widths)[:-1]))
        return Features(
            mesh=self.mesh,
            incident_energy=next(parts)[0],
            e_total=next(parts)[0],
            e_layer=next(parts).T,
            sparsity=next(parts).T,
            centre={axis: next(parts).T for axis in self.axes},
            width={axis: next(parts).T for axis in self.axes},
            lateral=self.lateral,
        )

    def fill(
        self, features: Features, rows: slice, flat: NDArray[np.floating], incident_energy: Floats
    ) -> None:
        """Write the features of energies (n, V) into ``rows`` of features made by `empty`."""
        cells = self._padded(flat).reshape(len(flat), *self._shape)
        sums = np.matmul(cells.transpose(1, 0, 2), self._weights).transpose(2, 1, 0)  # (7, n, Z)
        averages = sums[1:] / (sums[0] + EPSILON)
        features.incident_energy[rows] = incident_energy
        features.e_total[rows] = sums[0].sum(axis=1)
        features.e_layer[rows] = sums[0]
        features.sparsity[rows] = 1.0 - np.count_nonzero(cells, axis=2) / self._sizes
        for i, axis in enumerate(self.axes):
            layers = slice(None) if axis == "r" else self.lateral
            mean, square = averages[2 * i][:, layers], averages[2 * i + 1][:, layers]
            features.centre[axis][rows] = mean
            features.width[axis][rows] = np.sqrt(np.maximum(square - mean**2, 0.0))


def compute_features(
    showers: Showers,
    *,
    batch_size: int | None = None,
    visitors: Sequence[Visitor] = (),
    memory_limit: int = MEMORY_LIMIT,
) -> Features:
    """Features of all showers, read once in batches.

    Args:
        showers: on any mesh.
        batch_size: showers read at once; by default as many as fill 32 MiB. The result does not depend on it.
        visitors: functions that also see every batch, so that one pass over the file serves all.
        memory_limit: bytes; larger features lie in an unnamed temporary file (in ``$TMPDIR``).

    Raises:
        MeshError: the mesh has no ``x`` and ``y``.
        DataError: an energy is NaN, infinite or negative (raised where it is read), or the temporary folder
            is full.
    """
    mesh = showers.mesh
    if not {"x", "y"} <= mesh.centres().keys():
        raise MeshError(f"the {mesh} names no x and y of its cells, so centres are undefined")
    make = FeatureMaker(mesh)
    features, start = make.empty(len(showers), memory_limit), 0
    for flat, conditions in read_ahead(showers, batch_size):
        make.fill(features, slice(start, start + len(flat)), flat, conditions.energy)
        for visit in visitors:
            visit(start, flat, conditions)
        start += len(flat)
    return features


def read_ahead(
    showers: Showers, batch_size: int | None = None
) -> Iterator[tuple[NDArray[np.float32], Conditions]]:
    """Energies (n, V) and conditions in batches; a thread reads and decompresses the next one meanwhile.

    Energies come in the precision in which they are stored, float32 or float64.
    """
    n_voxels = showers.mesh.n_voxels
    batches = showers.exact().batches(batch_size or batch_rows(n_voxels))
    with ThreadPoolExecutor(1) as reader:
        waiting = reader.submit(next, batches, None)
        while (batch := waiting.result()) is not None:
            waiting = reader.submit(next, batches, None)
            energies, conditions = batch
            yield energies.reshape(len(energies), n_voxels), conditions
