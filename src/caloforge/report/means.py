"""The mean shower in one pass over the showers on disk. Legend: ``V`` voxels; energies are MeV."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Showers

__all__ = ["MeanShower", "mean_shower"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MeanShower:
    """Mean energy of each voxel with its statistical error, MeV, (V,)."""

    mean: Floats
    error: Floats


def mean_shower(showers: Showers) -> MeanShower:
    """Average the showers, reading them in slices."""
    n = len(showers)
    first = np.zeros(showers.mesh.n_voxels)
    second = np.zeros(showers.mesh.n_voxels)
    size = int(np.clip(2e7 / showers.mesh.n_voxels, 1, 1000))
    for energies, conditions in showers.batches(size):
        flat = energies.reshape(len(conditions), -1)
        first += flat.sum(axis=0, dtype=np.float64)
        second += np.einsum("nv,nv->v", flat, flat, dtype=np.float64)
    mean = first / max(n, 1)
    variance = np.maximum(second / max(n, 1) - mean**2, 0) * (n / max(n - 1, 1))
    return MeanShower(mean, np.sqrt(variance / max(n, 1)))
