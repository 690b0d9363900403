"""Histograms of the observables of a shower: labels, bins from the reference, and sparsity by threshold.

Legend: ``N`` showers, ``B`` bins or thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from caloforge.detector import Mesh
from caloforge.evaluation.binning import linear_edges
from caloforge.evaluation.histograms import CellCounts, HistogramPlan
from caloforge.evaluation.physics.shapes import layer_depths
from caloforge.evaluation.results import Profile

__all__ = ["observable_label", "observable_plans", "sparsity_profile"]

Floats = NDArray[np.float64]

BINS = 50
TAIL = 0.001
"""Share of the reference on each side that does not decide about the bins."""
MARGIN = 0.15
"""Of the range between the tails, added on both sides."""

# name: (group, label, unit; "depth" stands for that of the mesh's depths)
_OBSERVABLES = {
    "shower_start": ("shower_start", "depth with 5 % of the energy in front", "depth"),
    "shower_max": ("shower_max", "depth of the shower maximum", "depth"),
    "shower_length": ("shower_length", "depth that holds the middle 90 % of the energy", "depth"),
    "containment_radius": ("containment_radius", "radius that holds 90 % of the energy", "mm"),
    "asymmetry_longitudinal": ("asymmetry_longitudinal", "longitudinal asymmetry of the cluster", ""),
    "asymmetry_transverse": ("asymmetry_transverse", "transverse asymmetry of the cluster", ""),
    "cluster_width_longitudinal": ("cluster_width_longitudinal", "longitudinal width of the cluster", "mm"),
    "cluster_width_transverse": ("cluster_width_transverse", "transverse width of the cluster", "mm"),
    "centroid_shift_longitudinal": ("centroid_shift", "longitudinal shift of the cluster's centre", "mm"),
    "centroid_shift_transverse": ("centroid_shift", "transverse shift of the cluster's centre", "mm"),
}


def observable_label(name: str, mesh: Mesh) -> str:
    """Axis label of an observable, with its unit in square brackets."""
    _, text, unit = _OBSERVABLES[name]
    unit = layer_depths(mesh)[1] if unit == "depth" else unit
    return f"{text} [{unit}]" if unit else text


def observable_plans(
    reference: Mapping[str, Floats], generated: Mapping[str, Floats], mesh: Mesh
) -> list[HistogramPlan]:
    """Histograms of the observables that both samples have.

    50 equal bins between the 0.1 % and 99.9 % quantiles of the reference, widened by 15 % on both sides, as
    far as the observable can have such values. Showers without energy (NaN) are left out.

    Args:
        reference, generated: observables by name, each (N,), of `longitudinal_observables` and
            `ClusterObservables.columns`.
        mesh: of the showers.
    """
    plans = []
    for name, (group, _, _) in _OBSERVABLES.items():
        if name not in reference or name not in generated:
            continue
        first, second = (values[np.isfinite(values)] for values in (reference[name], generated[name]))
        if len(first):
            edges = _edges(name, first, mesh)
            plans.append(
                HistogramPlan(name, group, None, observable_label(name, mesh), edges, (first, second))
            )
    return plans


def _edges(name: str, values: Floats, mesh: Mesh) -> Floats:
    low, high = (float(v) for v in np.quantile(values, (TAIL, 1 - TAIL)))
    margin = MARGIN * (high - low) if high > low else max(abs(high), 1.0) * 0.5
    low, high = low - margin, high + margin
    if name.startswith("asymmetry"):
        low, high = max(low, -1.0), min(high, 1.0)
    elif name in ("shower_start", "shower_max"):
        depths, _ = layer_depths(mesh)
        low, high = max(low, float(depths[0, 0])), min(high, float(depths[-1, 1]))
    elif not name.startswith("centroid_shift"):
        low = max(low, 0.0)
    return linear_edges(low, high, BINS)


def sparsity_profile(reference: CellCounts, generated: CellCounts, n_voxels: int) -> Profile:
    """Mean fraction of a shower's cells above a threshold, for 25 logarithmic thresholds (arXiv:1812.01319).

    Errors come from the spread between showers. The thresholds are every second edge of the counts.

    Args:
        reference, generated: cells counted in the same logarithmic bins.
        n_voxels: cells of the mesh.
    """
    thresholds = reference.edges[:-1:2]
    steps = np.sqrt(thresholds[1:] * thresholds[:-1])
    edges = np.concatenate([thresholds[:1] ** 2 / steps[:1], steps, thresholds[-1:] ** 2 / steps[-1:]])
    means, errors = zip(*(_fraction_above(c, n_voxels) for c in (reference, generated)), strict=True)
    return Profile(
        name="sparsity_by_threshold",
        label="mean fraction of cells above the threshold",
        position_label="threshold [MeV]",
        positions=thresholds,
        edges=edges,
        reference=means[0],
        generated=means[1],
        reference_error=errors[0],
        generated_error=errors[1],
    )


def _fraction_above(counts: CellCounts, n_voxels: int) -> tuple[Floats, Floats]:
    """Mean and its error at every second edge."""
    per_shower = counts.per_shower
    n = max(len(per_shower), 1)
    above = np.cumsum(per_shower[:, ::-1], axis=1, dtype=np.int32)[:, ::-1][:, ::2]
    below, beyond = counts.outside  # of the hit cells; those beyond the last edge are above every threshold
    inside = 1.0 - below - beyond
    extra = float(per_shower.sum(dtype=np.int64)) * beyond / inside / (n * n_voxels) if inside > 0 else 0.0
    return above.mean(axis=0) / n_voxels + extra, above.std(axis=0) / n_voxels / np.sqrt(n)
