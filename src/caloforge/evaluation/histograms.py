"""Histograms of every feature in the bins of the field, with what falls outside counted.

Legend: ``N`` showers, ``B`` bins, ``V`` voxels.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Conditions, Showers
from caloforge.detector import calochallenge_mesh
from caloforge.errors import MissingDependencyError
from caloforge.evaluation.binning import lateral_ranges, linear_edges, log_edges
from caloforge.evaluation.features import Features, Visitor, batch_rows
from caloforge.evaluation.results import Histogram, Separation
from caloforge.evaluation.separation import separation_floor, separation_floor_clustered, separation_power

__all__ = [
    "CellCounts",
    "HistogramPlan",
    "cell_histogram",
    "discrete_energies",
    "feature_histograms",
    "fill_histogram",
]

Floats = NDArray[np.float64]

MOST_DISCRETE_ENERGIES = 20
_AXES = {"eta": "η", "phi": "φ", "x": "x", "y": "y", "r": "r"}


@dataclass(frozen=True)
class HistogramPlan:
    """One histogram to fill: names, edges, and the values of both samples, (N,)."""

    name: str
    group: str
    layer: int | None
    label: str
    edges: Floats
    values: tuple[NDArray[Any], NDArray[Any]]
    log: tuple[bool, bool] = (False, False)


class CellCounts:
    """Energies of all cells above zero, counted per shower in logarithmic bins.

    A visitor of `compute_features`. Showers are kept apart because the cells of one shower are correlated:
    errors and floors follow from the spread between showers.
    """

    def __init__(self, edges: Floats) -> None:
        self.edges = edges
        self._parts: list[NDArray[np.int32]] = []
        self._outside = np.zeros(2)

    def __call__(self, start: int, energies: NDArray[np.float32], conditions: Conditions) -> None:
        n, n_voxels = energies.shape
        hit = np.flatnonzero(energies)
        bh = _boost_histogram()
        filled = bh.Histogram(bh.axis.Integer(0, n), bh.axis.Variable(self.edges))
        filled.fill(hit // n_voxels, energies.ravel()[hit].astype(np.float64))
        counts = filled.view(flow=True)[1:-1]
        self._parts.append(counts[:, 1:-1].astype(np.int32))
        self._outside += counts[:, [0, -1]].sum(axis=0)

    def read(self, showers: Showers, progress: Visitor) -> None:
        """Count all showers of a file, in batches."""
        start, n_voxels = 0, showers.mesh.n_voxels
        for energies, conditions in showers.batches(batch_rows(n_voxels)):
            flat = energies.reshape(len(energies), n_voxels)
            self(start, flat, conditions)
            progress(start, flat, conditions)
            start += len(flat)

    @property
    def per_shower(self) -> NDArray[np.int32]:
        """Entries of each shower, (N, B)."""
        if not self._parts:
            return np.zeros((0, len(self.edges) - 1), dtype=np.int32)
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        return self._parts[0]

    @property
    def outside(self) -> tuple[float, float]:
        """Fractions of the hit cells below and above the edges."""
        total = max(float(self.per_shower.sum(dtype=np.int64) + self._outside.sum()), 1.0)
        return float(self._outside[0]) / total, float(self._outside[1]) / total


def feature_histograms(
    reference: Features, generated: Features, *, threshold_mev: float, seed: int = 0
) -> list[Histogram]:
    """Histograms of every feature of two samples on the same mesh, with separation powers and floors.

    Args:
        reference, generated: features of the two samples.
        threshold_mev: lower edge of the energies per layer.
        seed: of the draws behind the floors.
    """
    return [fill_histogram(plan, seed) for plan in _plans(reference, generated, threshold_mev)]


def cell_histogram(reference: CellCounts, generated: CellCounts, *, seed: int = 0) -> Histogram:
    """Energies of the cells above zero of both samples; errors from the spread between showers."""
    counts = [c.per_shower.sum(axis=0, dtype=np.float64) for c in (reference, generated)]
    errors = [np.sqrt((c.per_shower.astype(np.float64) ** 2).sum(axis=0)) for c in (reference, generated)]
    floor = separation_floor_clustered(reference.per_shower, generated.per_shower, seed=seed)
    return Histogram(
        name="cell_energy",
        group="cell_energy",
        layer=None,
        label="cell energy [MeV]",
        edges=reference.edges,
        reference=counts[0],
        generated=counts[1],
        reference_error=errors[0],
        generated_error=errors[1],
        reference_outside=reference.outside,
        generated_outside=generated.outside,
        separation=Separation(separation_power(*counts), *floor),
        log_x=True,
        log_y=True,
    )


def discrete_energies(energies: Floats) -> Floats:
    """The distinct incident energies where there are few of them with several showers each, else none."""
    distinct = np.unique(energies)
    few = 1 < len(distinct) <= MOST_DISCRETE_ENERGIES and len(energies) >= 5 * len(distinct)
    return distinct if few else distinct[:0]


def _plans(reference: Features, generated: Features, threshold: float) -> Iterator[HistogramPlan]:
    groups = zip(reference.groups().items(), generated.groups().values(), strict=True)
    ranges = lateral_ranges(reference.mesh)
    for (group, columns), others in groups:
        kind, _, axis = group.partition("_")
        for i, layer in enumerate(reference.layers_of(group)):
            values = columns[:, i], others[:, i]
            name, where = (group, "") if layer is None else (f"{group}_{layer}", f" in layer {layer}")
            log, unit = (False, False), " [mm]"
            if group == "e_ratio":
                edges, text, unit = linear_edges(0.5, 1.5, 100), "total energy / incident energy", ""
            elif group == "e_layer":
                largest = float(values[0].max(initial=0))
                edges, text, unit = log_edges(threshold, largest, 40), "energy", " [MeV]"
                log = (True, True)
            elif group == "sparsity":
                edges, text, unit = linear_edges(0, 1, 20), "sparsity", ""
            else:
                span = ranges[i if axis == "r" else int(reference.lateral[i])]
                text = f"{'centre of energy' if kind == 'ec' else 'width'} in {_AXES[axis]}"
                where = f", layer {layer}"
                log = (False, True)
                if axis == "r":
                    edges = linear_edges(0, span.centre_r if kind == "ec" else span.width_r, 100)
                elif kind == "ec":
                    edges = linear_edges(-span.centre, span.centre, 100)
                else:
                    edges = linear_edges(0, span.width, 100)
            yield HistogramPlan(name, group, layer, f"{text}{where}{unit}", edges, values, log)
        if group == "e_ratio":
            yield from _response_by_energy(reference, generated)


def _response_by_energy(reference: Features, generated: Features) -> Iterator[HistogramPlan]:
    """The response at each energy where the reference has discrete ones: 20 bins in 0.4-1.4 (data set 1)."""
    photons = reference.mesh == calochallenge_mesh("1-photons")
    for energy in discrete_energies(reference.incident_energy):
        span = (0.9, 1.1) if photons and energy >= 4096 else (0.4, 1.4)
        first, second = (f.e_ratio[f.incident_energy == energy] for f in (reference, generated))
        label = f"total energy / incident energy at {energy:g} MeV"
        name = f"e_ratio_at_{energy:g}mev"
        yield HistogramPlan(name, "e_ratio_at_energy", None, label, linear_edges(*span, 20), (first, second))


def fill_histogram(plan: HistogramPlan, seed: int) -> Histogram:
    """Both samples in one plan's bins, with separation power and floor; the seed is of the floor."""
    (first, first_outside), (second, second_outside) = (_fill(v, plan.edges) for v in plan.values)
    own_seed = (seed << 32) + zlib.crc32(plan.name.encode())
    floor = separation_floor(first, second, seed=own_seed)
    return Histogram(
        name=plan.name,
        group=plan.group,
        layer=plan.layer,
        label=plan.label,
        edges=plan.edges,
        reference=first,
        generated=second,
        reference_error=np.sqrt(first),
        generated_error=np.sqrt(second),
        reference_outside=first_outside,
        generated_outside=second_outside,
        separation=Separation(separation_power(first, second), *floor),
        log_x=plan.log[0],
        log_y=plan.log[1],
    )


def _fill(values: NDArray[Any], edges: Floats) -> tuple[Floats, tuple[float, float]]:
    """Entries in each bin, (B,), and the fractions below and above."""
    bh = _boost_histogram()
    filled = bh.Histogram(bh.axis.Variable(edges)).fill(values.astype(np.float64))
    counts = np.asarray(filled.view(flow=True), dtype=np.float64)
    total = max(float(counts.sum()), 1.0)
    return counts[1:-1], (float(counts[0]) / total, float(counts[-1]) / total)


def _boost_histogram() -> Any:
    try:
        import boost_histogram
    except ImportError as error:
        raise MissingDependencyError("hist", "evaluate") from error
    return boost_histogram
