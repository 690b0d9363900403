"""The mean shower in one pass over the showers on disk, and how two of them differ.

Legend: ``V`` voxels; energies are MeV.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Showers
from caloforge.detector import Mesh
from caloforge.report.geometry import layer_cells, split_layers, visible_radius
from caloforge.report.script_data import colour_table, pack

__all__ = [
    "DIFFERENCE_LIMIT",
    "SIGNIFICANCE",
    "MeanShower",
    "colour_range",
    "layers_payload",
    "mean_shower",
    "relative_difference",
    "significant_difference",
]

Floats = NDArray[np.float64]
DIFFERENCE_LIMIT = 0.5
"""Relative differences are drawn up to ±50 % and saturate there."""
SIGNIFICANCE = 2.0
"""Standard errors below which a cell's difference is left white."""


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


def relative_difference(reference: Floats, generated: Floats) -> Floats:
    """(generated − reference) / reference; NaN where both are empty, +inf where only the reference is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (generated - reference) / reference


def significant_difference(reference: MeanShower, generated: MeanShower) -> Floats:
    """Relative difference of every voxel's mean, (V,); 0 where it is below `SIGNIFICANCE` standard errors.

    Without this, cells that hardly any shower reaches would fill the images with noise.
    """
    difference = relative_difference(reference.mean, generated.mean)
    error = np.hypot(reference.error, generated.error)
    by_chance = np.abs(generated.mean - reference.mean) < SIGNIFICANCE * error
    return np.where(by_chance, 0.0, difference)


def colour_range(reference: Floats, generated: Floats) -> tuple[float, float]:
    """Limits of the logarithmic colour scale shared by both samples, MeV: at most five decades."""
    joint = np.concatenate([reference, generated])
    high = float(joint.max()) if joint.max() > 0 else 1.0
    lowest = float(joint[joint > 0].min()) if (joint > 0).any() else high * 0.1
    return min(max(lowest, high * 1e-5), high * 0.5), high


def layers_payload(mesh: Mesh, reference: MeanShower, generated: MeanShower) -> dict[str, Any]:
    """Mean showers layer by layer for the images with the slider.

    ``difference`` is what the picture shows, ``raw`` what the pointer reads: 0 where undefined.
    """
    layers = layer_cells(mesh)
    parts = split_layers(mesh, reference.mean)
    shapes: list[dict[str, Any]] = []
    shape_numbers = []
    for layer in layers:
        shape = {"a": np.round(layer.a, 6).tolist(), "b": np.round(layer.b, 4).tolist()}
        if shape not in shapes:
            shapes.append(shape)
        shape_numbers.append(shapes.index(shape))
    shown = np.nan_to_num(significant_difference(reference, generated), nan=0.0)
    raw = np.nan_to_num(relative_difference(reference.mean, generated.mean), nan=0.0)
    return {
        "polar": layers[0].polar,
        "numbers": [layer.number for layer in layers],
        "depths": [None if layer.z is None else [round(v, 3) for v in layer.z] for layer in layers],
        "shapes": shapes,
        "shape": shape_numbers,
        "offsets": mesh.layer_offsets.tolist(),
        "half": visible_radius(layers, parts),
        "range": list(colour_range(reference.mean, generated.mean)),
        "limit": DIFFERENCE_LIMIT,
        "reference": pack(reference.mean),
        "generated": pack(generated.mean),
        "difference": pack(np.clip(shown, -9, 9)),
        "raw": pack(np.clip(raw, -9, 9)),
        "start": int(np.argmax([part.sum() for part in parts])),
        "colours": colour_table("viridis"),
        "differences": colour_table("RdBu_r", n=65),
    }
