"""Mean shower and response in one pass over the showers on disk. ``N`` showers, ``V`` voxels; MeV."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Showers

__all__ = ["MeanShower", "Response", "energy_bins", "mean_shower", "response"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MeanShower:
    """Mean energy of each voxel with its statistical error, (V,), and the total of each shower, (N,); MeV."""

    mean: Floats
    error: Floats
    total: Floats
    incident: Floats


@dataclass(frozen=True)
class Response:
    """Mean ΣE/E_inc and its relative spread σ/µ in bins of incident energy, with statistical errors.

    NaN where a bin holds fewer than two showers.
    """

    energy: Floats
    mean: Floats
    mean_error: Floats
    resolution: Floats
    resolution_error: Floats


def mean_shower(showers: Showers, advance: Callable[[int], None] = lambda n: None) -> MeanShower:
    """Average the showers, reading them in slices; ``advance`` is told how many were read."""
    n = len(showers)
    first = np.zeros(showers.mesh.n_voxels)
    second = np.zeros(showers.mesh.n_voxels)
    total = np.empty(n)
    done = 0
    size = int(np.clip(2e7 / showers.mesh.n_voxels, 1, 1000))
    for energies, conditions in showers.batches(size):
        flat = energies.reshape(len(conditions), -1)
        first += flat.sum(axis=0, dtype=np.float64)
        second += np.einsum("nv,nv->v", flat, flat, dtype=np.float64)
        total[done : done + len(flat)] = flat.sum(axis=1, dtype=np.float64)
        done += len(flat)
        advance(len(flat))
    mean = first / max(n, 1)
    variance = np.maximum(second / max(n, 1) - mean**2, 0) * (n / max(n - 1, 1))
    return MeanShower(mean, np.sqrt(variance / max(n, 1)), total, showers.conditions.energy)


def energy_bins(reference: Floats, generated: Floats, n_bins: int = 12, least: int = 25) -> Floats:
    """Edges, MeV, of bins of incident energy that suit both samples.

    Discrete energies get a bin each; otherwise the bins are equal in log E and as many as leave about
    ``least`` showers in each.
    """
    joint = np.concatenate([reference, generated])
    values = np.unique(joint)
    if len(values) == 1:
        return np.array([0.9 * values[0], 1.1 * values[0]])
    if len(values) <= 40 and len(values) < 0.2 * len(joint):
        middle = np.sqrt(values[1:] * values[:-1])
        return np.concatenate([[values[0] ** 2 / middle[0]], middle, [values[-1] ** 2 / middle[-1]]])
    count = int(np.clip(min(len(reference), len(generated)) // least, 1, n_bins))
    edges = np.geomspace(values[0], values[-1], count + 1)
    edges[-1] *= 1 + 1e-9
    return edges


def response(shower: MeanShower, edges: Floats) -> Response:
    """Mean and resolution of ΣE/E_inc in bins of incident energy.

    The error of σ follows from the sample's kurtosis, so it holds for tails that are not Gaussian.
    """
    ratio = shower.total / shower.incident
    where = np.digitize(shower.incident, edges) - 1
    rows = np.full((5, len(edges) - 1), np.nan)
    for i in range(len(edges) - 1):
        here = where == i
        n = int(here.sum())
        if n < 2:
            continue
        part = ratio[here]
        mean, spread = part.mean(), part.std(ddof=1)
        rows[0, i] = np.exp(np.log(shower.incident[here]).mean())
        rows[1, i], rows[2, i] = mean, spread / np.sqrt(n)
        if mean > 0:
            kurtosis = np.mean((part - mean) ** 4) / spread**4 if spread > 0 else 1.0
            rows[3, i] = spread / mean
            rows[4, i] = rows[3, i] * np.sqrt(max(kurtosis - 1, 0) / (4 * n))
    return Response(*rows)
