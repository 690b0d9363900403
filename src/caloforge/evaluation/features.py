"""High-level features of showers, as the CaloChallenge defines them (arXiv:2410.21611).

Legend: ``N`` showers, ``n`` of them in a batch, ``V`` voxels, ``Z`` layers, ``C`` cells in the largest layer,
``L`` lateral layers (those that tell directions apart). Energies are MeV, lengths mm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Conditions, Showers
from caloforge.detector import Mesh
from caloforge.errors import MeshError

__all__ = ["EPSILON", "FeatureMaker", "Features", "Visitor", "batch_rows", "compute_features"]

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
    """Features of N showers; sums are taken in double precision, arrays per layer are kept in single.

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
    e_layer: NDArray[np.float32]
    sparsity: NDArray[np.float32]
    centre: dict[str, NDArray[np.float32]]
    width: dict[str, NDArray[np.float32]]
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

    def groups(self) -> dict[str, NDArray[np.float64] | NDArray[np.float32]]:
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
            group if layer is None else f"{group}_{layer}": values[:, i].astype(np.float64)
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

    def __call__(self, energies: NDArray[np.float32], incident_energy: Floats) -> Features:
        """Features of energies (n, V) or (n, \\*mesh.shape)."""
        flat = energies.reshape(len(energies), self.mesh.n_voxels)
        cells = self._padded(flat).reshape(len(flat), *self._shape)
        sums = np.matmul(cells.transpose(1, 0, 2), self._weights).transpose(2, 1, 0)  # (7, n, Z)
        hits = np.count_nonzero(cells, axis=2)
        e_layer = sums[0]
        averages = sums[1:] / (e_layer + EPSILON)
        centre, width = averages[::2], np.sqrt(np.maximum(averages[1::2] - averages[::2] ** 2, 0.0))
        chosen = (self.lateral, self.lateral, slice(None))
        return Features(
            mesh=self.mesh,
            incident_energy=np.asarray(incident_energy, dtype=np.float64),
            e_total=e_layer.sum(axis=1),
            e_layer=e_layer.astype(np.float32),
            sparsity=(1.0 - hits / self._sizes).astype(np.float32),
            centre={a: c[:, w].astype(np.float32) for a, c, w in zip(self.axes, centre, chosen, strict=True)},
            width={a: c[:, w].astype(np.float32) for a, c, w in zip(self.axes, width, chosen, strict=True)},
            lateral=self.lateral,
        )


def compute_features(
    showers: Showers, *, batch_size: int | None = None, visitors: Sequence[Visitor] = ()
) -> Features:
    """Features of all showers, read once in batches.

    Args:
        showers: on any mesh.
        batch_size: showers read at once; by default as many as fill 32 MiB. The result does not depend on it.
        visitors: functions that also see every batch, so that one pass over the file serves all.

    Raises:
        MeshError: the mesh has no ``x`` and ``y``.
        DataError: an energy is NaN, infinite or negative (raised where it is read).
    """
    if not {"x", "y"} <= showers.mesh.centres().keys():
        raise MeshError(f"the {showers.mesh} names no x and y of its cells, so centres are undefined")
    make = FeatureMaker(showers.mesh)
    parts, start = [], 0
    for energies, conditions in showers.batches(batch_size or batch_rows(showers.mesh.n_voxels)):
        flat = energies.reshape(len(energies), showers.mesh.n_voxels)
        parts.append(make(flat, conditions.energy))
        for visit in visitors:
            visit(start, flat, conditions)
        start += len(flat)
    if not parts:
        parts.append(make(np.zeros((0, showers.mesh.n_voxels), dtype=np.float32), np.zeros(0)))
    return _joined(parts)


def _joined(parts: Sequence[Features]) -> Features:
    first = parts[0]
    if len(parts) == 1:
        return first
    return Features(
        mesh=first.mesh,
        incident_energy=np.concatenate([p.incident_energy for p in parts]),
        e_total=np.concatenate([p.e_total for p in parts]),
        e_layer=np.concatenate([p.e_layer for p in parts]),
        sparsity=np.concatenate([p.sparsity for p in parts]),
        centre={axis: np.concatenate([p.centre[axis] for p in parts]) for axis in first.centre},
        width={axis: np.concatenate([p.width[axis] for p in parts]) for axis in first.width},
        lateral=first.lateral,
    )
