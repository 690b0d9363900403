"""Mean showers: along the depth, across the axis and cell by cell.

Legend: ``N`` showers, ``V`` voxels, ``Z`` layers, ``B`` radial bins.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Conditions
from caloforge.detector import CylinderMesh, Mesh
from caloforge.evaluation.features import Features
from caloforge.evaluation.results import Profile

__all__ = ["MeanShower", "longitudinal_profile", "radial_edges", "radial_profile", "ring_places"]

Floats = NDArray[np.float64]

RADIAL_BINS = 20


def radial_edges(mesh: Mesh) -> Floats:
    """Edges of the radial profile, mm: the mesh's own, or bins of about equally many cells each."""
    if isinstance(mesh, CylinderMesh):
        return np.array(mesh.r_edges)
    r = _radius(mesh)
    inner = np.unique(np.quantile(r, np.linspace(0, 1, RADIAL_BINS + 1)[1:-1]).round(6))
    outer = max(float(r.max()), 1e-6)
    edges = np.concatenate([[0.0], inner[(inner > 0) & (inner < outer)], [np.nextafter(outer, np.inf)]])
    return edges.astype(np.float64)


def ring_places(mesh: Mesh) -> NDArray[np.int64]:
    """Which of the `radial_edges`' rings each voxel is in, (V,)."""
    edges = radial_edges(mesh)
    return np.clip(np.searchsorted(edges, _radius(mesh), side="right") - 1, 0, len(edges) - 2)


class MeanShower:
    """Sums cells and radial bins over showers in double precision; a visitor of `compute_features`."""

    def __init__(self, mesh: Mesh) -> None:
        self.n = 0
        self.edges = radial_edges(mesh)
        self._cells: Floats = np.zeros(mesh.n_voxels)
        bins = len(self.edges) - 1
        self._rings = (ring_places(mesh)[:, None] == np.arange(bins)).astype(np.float64)  # (V, B)
        self._radial, self._radial_squared = np.zeros(bins), np.zeros(bins)

    def __call__(self, start: int, energies: NDArray[np.float32], conditions: Conditions) -> None:
        cells = energies.astype(np.float64)
        self.n += len(cells)
        self._cells += cells.sum(axis=0)
        rings = cells @ self._rings
        self._radial += rings.sum(axis=0)
        self._radial_squared += (rings**2).sum(axis=0)

    def totals(self) -> dict[str, Floats]:
        """What is summed, to be added to."""
        return {"cells": self._cells, "radial": self._radial, "radial_squared": self._radial_squared}

    @property
    def cells(self) -> Floats:
        """Mean energy of each voxel, MeV, (V,), to six significant digits."""
        mean = self._cells / max(self.n, 1)
        return np.array([float(f"{value:.6g}") for value in mean])

    @property
    def radial(self) -> tuple[Floats, Floats]:
        """Mean energy in each ring and its standard error, MeV, each (B,)."""
        n = max(self.n, 1)
        mean = self._radial / n
        variance = np.maximum(self._radial_squared / n - mean**2, 0.0)
        return mean, np.sqrt(variance / n)


def longitudinal_profile(reference: Features, generated: Features) -> Profile:
    """Mean energy in each layer, (Z,); positions count the layers where their numbers have gaps."""
    numbers = reference.mesh.layer_numbers
    positions, label = np.array(numbers, dtype=np.float64), "layer"
    if np.any(np.diff(positions) != 1):
        positions, label = (
            np.arange(len(numbers), dtype=np.float64),
            f"layer, in order: {', '.join(map(str, numbers))}",
        )
    means, errors = zip(*(_mean_and_error(f.e_layer) for f in (reference, generated)), strict=True)
    return Profile(
        name="longitudinal",
        label="mean energy [MeV]",
        position_label=label,
        positions=positions,
        edges=np.concatenate([positions - 0.5, positions[-1:] + 0.5]),
        reference=means[0],
        generated=means[1],
        reference_error=errors[0],
        generated_error=errors[1],
    )


def radial_profile(reference: MeanShower, generated: MeanShower) -> Profile:
    """Mean energy at each distance from the axis, (B,)."""
    (first, first_error), (second, second_error) = reference.radial, generated.radial
    edges = reference.edges
    return Profile(
        name="radial",
        label="mean energy [MeV]",
        position_label="distance from the axis [mm]",
        positions=(edges[1:] + edges[:-1]) / 2,
        edges=edges,
        reference=first,
        generated=second,
        reference_error=first_error,
        generated_error=second_error,
    )


def _mean_and_error(values: Floats) -> tuple[Floats, Floats]:
    n = max(len(values), 1)
    return values.mean(axis=0), values.std(axis=0) / np.sqrt(n)


def _radius(mesh: Mesh) -> Floats:
    centres = mesh.centres()
    return centres["r"] if "r" in centres else np.hypot(centres["x"], centres["y"])
