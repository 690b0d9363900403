"""Histograms of every feature in the bins of the field, with what falls outside counted.

Bins are half-open but for the last, [e₀, e₁), …, [eₙ₋₁, eₙ], as in `numpy.histogram`.

Legend: ``N`` showers, ``B`` bins, ``V`` voxels.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Conditions
from caloforge.data.matching import discrete_values, places_among
from caloforge.evaluation.binning import LateralRanges, challenge_set, lateral_ranges, linear_edges, log_edges
from caloforge.evaluation.features import Features
from caloforge.evaluation.results import Histogram, Separation
from caloforge.evaluation.separation import (
    bin_places,
    bootstrap_error,
    cell_separation,
    separation_error,
    separation_floor,
    separation_power,
)

__all__ = [
    "CellCounts",
    "EntryCounts",
    "HistogramPlan",
    "cell_histogram",
    "discrete_energies",
    "entry_histogram",
    "feature_histograms",
    "fill_histogram",
    "histogram_plans",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Axis:
    """Label of a group of features, with ``{}`` for the layer, and its published bins.

    ``edges`` makes them of the reference's values, (N,), the ranges of the layer and the threshold, MeV.
    """

    label: str
    edges: Callable[[Floats, LateralRanges, float], Floats]
    log: tuple[bool, bool] = (False, False)


_GROUPS = {
    "e_ratio": _Axis("total energy / incident energy", lambda *_: linear_edges(0.5, 1.5, 100)),
    "e_layer": _Axis(
        "energy in layer {} [MeV]",
        lambda values, span, threshold: log_edges(threshold, float(values.max(initial=0)), 40),
        log=(True, True),
    ),
    "sparsity": _Axis("sparsity in layer {}", lambda *_: linear_edges(0, 1, 20)),
    "ec_r": _Axis(
        "centre of energy in r, layer {} [mm]",
        lambda values, span, threshold: linear_edges(0, span.centre_r, 100),
        log=(False, True),
    ),
    "width_r": _Axis(
        "width in r, layer {} [mm]",
        lambda values, span, threshold: linear_edges(0, span.width_r, 100),
        log=(False, True),
    ),
}
for _name, _symbol in {"eta": "η", "phi": "φ", "x": "x", "y": "y"}.items():
    _GROUPS[f"ec_{_name}"] = _Axis(
        f"centre of energy in {_symbol}, layer {{}} [mm]",
        lambda values, span, threshold: linear_edges(-span.centre, span.centre, 100),
        log=(False, True),
    )
    _GROUPS[f"width_{_name}"] = _Axis(
        f"width in {_symbol}, layer {{}} [mm]",
        lambda values, span, threshold: linear_edges(0, span.width, 100),
        log=(False, True),
    )


@dataclass(frozen=True)
class HistogramPlan:
    """One histogram to fill: names, edges, the values of both samples, (N,), and of a second reference."""

    name: str
    group: str
    layer: int | None
    label: str
    edges: Floats
    values: tuple[NDArray[Any], NDArray[Any]]
    log: tuple[bool, bool] = (False, False)
    second: NDArray[Any] | None = None


class EntryCounts:
    """Values counted per shower in bins, many of each.

    Showers are kept apart because the values of one shower are correlated: errors and floors follow from the
    spread between showers.
    """

    def __init__(self, edges: Floats) -> None:
        self.edges = edges
        self._parts: list[NDArray[np.int32]] = []
        self.n_outside: Floats = np.zeros(2)

    def add(self, n: int, shower: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Count the values of n showers more; ``shower`` says whose each is, from 0."""
        slots = len(self.edges) + 1
        place = bin_places(values, self.edges)
        counts = np.bincount(shower * slots + place, minlength=n * slots).reshape(n, slots)
        self.add_counted(counts[:, 1:-1].astype(np.int32), counts[:, [0, -1]].sum(axis=0))

    def add_counted(self, per_shower: NDArray[np.int32], outside: NDArray[Any]) -> None:
        """Add showers that are counted in these bins, (n, B), and how many values are below and above."""
        self._parts.append(per_shower)
        self.n_outside += outside

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
        """Fractions of the values below and above the edges."""
        total = max(float(self.per_shower.sum(dtype=np.int64) + self.n_outside.sum()), 1.0)
        return float(self.n_outside[0]) / total, float(self.n_outside[1]) / total

    @property
    def total_and_error(self) -> tuple[Floats, Floats]:
        """Entries of all showers and their bootstrap errors, each (B,)."""
        entries = self.per_shower
        total = entries.sum(axis=0, dtype=np.float64)
        squares = np.einsum("nb,nb->b", entries, entries, dtype=np.float64, casting="safe")
        return total, bootstrap_error(total, squares, len(entries))


class CellCounts(EntryCounts):
    """Energies of all cells above zero in logarithmic bins; a visitor of `compute_features`."""

    def __call__(self, start: int, energies: NDArray[np.floating], conditions: Conditions) -> None:
        hit = np.flatnonzero(energies > 0)
        self.add(len(energies), hit // energies.shape[1], energies.ravel()[hit])


def feature_histograms(
    reference: Features,
    generated: Features,
    *,
    threshold_mev: float,
    seed: int = 0,
    second: Features | None = None,
) -> list[Histogram]:
    """Histograms of every feature of two samples on the same mesh, with separation powers and floors.

    Args:
        reference, generated: features of the two samples.
        threshold_mev: lower edge of the energies per layer.
        seed: of the draws behind floors and errors.
        second: a second reference sample. Floors are then the separation of the two references, and
            ``floor_std`` its bootstrap error and √2 times the scatter of permutations in quadrature, since
            value and floor scatter alike; it should have as many showers as ``generated``, since a floor is
            proportional to 1/N₁ + 1/N₂.
    """
    return [
        fill_histogram(plan, seed) for plan in histogram_plans(reference, generated, threshold_mev, second)
    ]


def cell_histogram(
    reference: CellCounts, generated: CellCounts, *, seed: int = 0, second: CellCounts | None = None
) -> Histogram:
    """Energies of the cells above zero of both samples, see `entry_histogram`."""
    return entry_histogram(
        reference,
        generated,
        name="cell_energy",
        label="cell energy [MeV]",
        log=(True, True),
        seed=seed,
        second=second,
    )


def entry_histogram(
    reference: EntryCounts,
    generated: EntryCounts,
    *,
    name: str,
    label: str,
    log: tuple[bool, bool] = (False, False),
    seed: int = 0,
    second: EntryCounts | None = None,
) -> Histogram:
    """Values of both samples, many a shower; errors from the spread between showers.

    Args:
        reference, generated: counts in the same bins.
        name, label, log: of the histogram.
        seed: of the draws behind floor and error.
        second: of a second reference sample, as in `feature_histograms`.
    """
    counts, errors = zip(*(c.total_and_error for c in (reference, generated)), strict=True)
    entries = reference.per_shower, generated.per_shower
    separation = cell_separation(*entries, seed=seed)
    if second is not None:
        floor = cell_separation(entries[0], second.per_shower, seed=seed)
        spread = math.sqrt(floor.error**2 + 2 * separation.floor_std**2)
        separation = separation.replace(floor=floor.value, floor_std=spread)
    return Histogram(
        name=name,
        group=name,
        layer=None,
        label=label,
        edges=reference.edges,
        reference=counts[0],
        generated=counts[1],
        reference_error=errors[0],
        generated_error=errors[1],
        reference_outside=reference.outside,
        generated_outside=generated.outside,
        separation=separation,
        log_x=log[0],
        log_y=log[1],
    )


def discrete_energies(energies: Floats) -> Floats:
    """The distinct incident energies where there are few of them with several showers each, else none."""
    distinct = discrete_values(energies)
    return distinct if len(distinct) > 1 else distinct[:0]


def histogram_plans(
    reference: Features, generated: Features, threshold_mev: float, second: Features | None = None
) -> Iterator[HistogramPlan]:
    """What to fill for every feature, layer by layer, in the published bins; as `feature_histograms`."""
    others, thirds = generated.groups(), None if second is None else second.groups()
    ranges = lateral_ranges(reference.mesh)
    for group, columns in reference.groups().items():
        axis = _GROUPS[group]
        places = reference.lateral if group.endswith(reference.plane) else range(columns.shape[1])
        for i, (place, layer) in enumerate(zip(places, reference.layers_of(group), strict=True)):
            yield HistogramPlan(
                name=group if layer is None else f"{group}_{layer}",
                group=group,
                layer=layer,
                label=axis.label if layer is None else axis.label.format(layer),
                edges=axis.edges(columns[:, i], ranges[place], threshold_mev),
                values=(columns[:, i], others[group][:, i]),
                log=axis.log,
                second=None if thirds is None else thirds[group][:, i],
            )
        if group == "e_ratio":
            yield from _response_by_energy(reference, generated, second)


def _response_by_energy(
    reference: Features, generated: Features, second: Features | None
) -> Iterator[HistogramPlan]:
    """The response at each energy where the reference has discrete ones: 20 bins in 0.4-1.4 (data set 1)."""
    photons = challenge_set(reference.mesh) == "1-photons"

    def at(features: Features, energy: float) -> Floats:
        chosen = places_among(features.incident_energy, np.array([energy])) == 0
        return np.asarray(features.e_total[chosen] / energy)

    for energy in discrete_energies(reference.incident_energy).tolist():
        yield HistogramPlan(
            name=f"e_ratio_at_{energy:g}mev",
            group="e_ratio_at_energy",
            layer=None,
            label=f"total energy / incident energy at {energy:g} MeV",
            edges=linear_edges(*(0.9, 1.1) if photons and energy >= 4096 else (0.4, 1.4), 20),
            values=(at(reference, energy), at(generated, energy)),
            second=None if second is None else at(second, energy),
        )


def fill_histogram(plan: HistogramPlan, seed: int) -> Histogram:
    """Both samples in one plan's bins, with separation power, error and floor; the seed is of the draws.

    Errors of the bins are the standard deviation over bootstrap samples of the showers.
    """
    samples = [v for v in (*plan.values, plan.second) if v is not None]
    filled = [_fill(v, plan.edges) for v in samples]
    (first, first_outside), (second, second_outside) = filled[:2]
    missed = [len(v) - int(h.sum()) for v, (h, _) in zip(samples, filled, strict=True)]
    own_seed = (seed << 32) + zlib.crc32(plan.name.encode())
    error = separation_error(first, second, outside=(missed[0], missed[1]), seed=own_seed)
    floor = separation_floor(first, second, outside=(missed[0], missed[1]), seed=own_seed)
    if plan.second is not None:
        third = filled[2][0]
        spread = separation_error(first, third, outside=(missed[0], missed[2]), seed=own_seed)
        floor = separation_power(first, third), math.sqrt(spread**2 + 2 * floor[1] ** 2)
    errors = [bootstrap_error(h, h, len(v)) for h, v in zip((first, second), plan.values, strict=True)]
    return Histogram(
        name=plan.name,
        group=plan.group,
        layer=plan.layer,
        label=plan.label,
        edges=plan.edges,
        reference=first,
        generated=second,
        reference_error=errors[0],
        generated_error=errors[1],
        reference_outside=first_outside,
        generated_outside=second_outside,
        separation=Separation(
            value=separation_power(first, second), floor=floor[0], floor_std=floor[1], error=error
        ),
        log_x=plan.log[0],
        log_y=plan.log[1],
    )


def _fill(values: NDArray[Any], edges: Floats) -> tuple[Floats, tuple[float, float]]:
    """Entries in each bin, (B,), and the fractions below and above."""
    counts = np.bincount(bin_places(values, edges), minlength=len(edges) + 1).astype(np.float64)
    total = max(float(counts.sum()), 1.0)
    return counts[1:-1], (float(counts[0]) / total, float(counts[-1]) / total)
