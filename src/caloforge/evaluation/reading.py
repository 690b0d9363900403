"""Everything that is learnt from the cells of the samples, in as few readings as there can be.

The reference is read twice, since the range of its cells and its brightest cells must be known before they
are counted, all other samples once. What stays in memory is features and sums, never showers.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Conditions, Showers
from caloforge.errors import DataError
from caloforge.evaluation.binning import default_threshold, log_edges
from caloforge.evaluation.features import Features, Visitor, compute_features, read_ahead
from caloforge.evaluation.histograms import CellCounts
from caloforge.evaluation.localise import CellSums
from caloforge.evaluation.physics import (
    ChosenCells,
    ClusterObservables,
    NeighbourhoodObservables,
    choose_cells,
    depth_of_maximum,
    longitudinal_observables,
)
from caloforge.evaluation.profiles import MeanShower
from caloforge.evaluation.progress import Progress
from caloforge.evaluation.repeats import Fingerprints
from caloforge.evaluation.results import CellRange
from caloforge.evaluation.results.base import of_both
from caloforge.evaluation.tables import Columns

__all__ = ["CELL_EDGES", "Reading", "Scales", "Span", "cell_range", "read_reference", "read_sample"]

CELL_EDGES = 50
LOWEST = 1 << 17
"""Cell energies that are kept, at least."""


@dataclass(frozen=True, eq=False)
class Scales:
    """What the reference decides of how all samples are read.

    Attributes:
        depth_mm: of the shower maximum, see `depth_of_maximum`.
        edges: of the histogram of cell energies, MeV, the first of which is the threshold.
        cells: in which the reference is brightest, flat voxels.
    """

    depth_mm: float
    edges: NDArray[np.float64]
    cells: NDArray[np.int64]

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, Scales) and self.depth_mm == other.depth_mm
        return same and all(np.array_equal(getattr(self, n), getattr(other, n)) for n in ("edges", "cells"))

    __hash__ = None  # type: ignore[assignment]


class Span:
    """Energies above zero of any cell, MeV: smallest, largest, how many; a visitor of `compute_features`.

    The lowest of them are kept, so that cells below the smallest of another sample can be counted.
    """

    def __init__(self) -> None:
        self.smallest, self.largest, self.hits = np.inf, 0.0, 0
        self.lowest: NDArray[np.floating] = np.zeros(0)
        self.limit = np.inf  # all energies below it are among the lowest

    def __call__(self, start: int, energies: NDArray[np.floating], conditions: Conditions) -> None:
        lit = energies[energies > 0]
        self.add(lit, lit, len(lit))

    def add(self, lowest: NDArray[np.floating], ends: NDArray[np.floating], hits: int) -> None:
        """Energies more: those that may be among the lowest, all or some with both ends, and how many."""
        self.hits += hits
        self.largest = max(self.largest, float(ends.max(initial=0.0)))
        self.smallest = min(self.smallest, float(ends.min(initial=np.inf)))
        self.lowest = np.concatenate([self.lowest, lowest[lowest < self.limit]])
        if len(self.lowest) > 2 * LOWEST:
            self.lowest = np.partition(self.lowest, LOWEST)[: LOWEST + 1]
            self.limit = float(self.lowest[-1])

    def below(self, energy: float, counts: CellCounts) -> int:
        """Cells below an energy: exactly as far as the lowest reach, else by straight lines within bins."""
        lowest = int(np.count_nonzero(self.lowest < energy))
        if energy <= self.limit:
            return lowest
        total = counts.outside[0] * self.hits + np.cumsum([0.0, *counts.total_and_error[0]])
        return max(lowest, round(float(np.interp(np.log(energy), np.log(counts.edges), total))))


class Reading:
    """What is known of one sample after it was read; made of visitors of `compute_features`.

    Args:
        showers: the sample; its cells are still on disk.
        depth_mm: of the shower maximum.
        scales: by which cells are counted and kept; without them, the sample is the reference, which is
            read again when they are known.
        keep: of how many showers the brightest cells are kept, as `ChosenCells` has it.

    Attributes:
        features: of every shower.
        observables: shapes, clusters and neighbourhoods by name, each (N,).
        neighbourhoods: those of them that are about the neighbours of lit cells.
        span: smallest, largest and lowest cells.
        prints: fingerprints of all showers, to find copies.
        mean: of every cell and ring.
        sums: for the comparison cell by cell.
        counts: of cell energies in the reference's bins.
        brightest: energies of the cells in which the reference is brightest.
    """

    features: Features
    scales: Scales
    counts: CellCounts
    brightest: ChosenCells

    def __init__(
        self, showers: Showers, depth_mm: float, scales: Scales | None = None, keep: float | None = None
    ) -> None:
        mesh = showers.mesh
        self.showers, self.span, self._keep = showers, Span(), keep
        self.prints, self.mean, self.sums = Fingerprints(mesh.n_voxels), MeanShower(mesh), CellSums(mesh)
        self._cluster, self._around = ClusterObservables(mesh, depth_mm), NeighbourhoodObservables(mesh)
        self.columns = Columns(len(showers))
        if scales is not None:
            self.count_by(scales)

    @property
    def sample(self) -> tuple[Showers, Features]:
        """The showers with their features."""
        return self.showers, self.features

    def of(self, showers: Showers) -> Reading:
        """The same of showers whose conditions differ by rounding alone."""
        found = copy(self)
        found.showers = showers
        return found

    @cached_property
    def observables(self) -> dict[str, NDArray[np.float64]]:
        return longitudinal_observables(self.features) | self.columns.columns()

    @cached_property
    def neighbourhoods(self) -> dict[str, NDArray[np.float64]]:
        names = self._around.names()
        return {name: column for name, column in self.columns.columns().items() if name in names}

    def count_by(self, scales: Scales) -> None:
        """Prepare to count cells in bins and to keep the brightest."""
        self.scales = scales
        self.counts, self.brightest = CellCounts(scales.edges), ChosenCells(scales.cells, self._keep)

    def read(self, name: str, report: Progress) -> None:
        """Read all showers: features, observables and whatever was prepared."""
        visitors: list[Visitor] = [self.span, self.prints, self.mean, self.sums, self._observe]
        if hasattr(self, "scales"):
            visitors += [self.counts, self.brightest]
        count = _counter(report, f"reading the {name}", len(self.showers))
        self.features = compute_features(self.showers, visitors=[*visitors, count])

    def read_again(self, name: str, report: Progress) -> None:
        """Read all showers for what was prepared after the first reading."""
        start, count = 0, _counter(report, f"reading the {name} again", len(self.showers))
        for flat, conditions in read_ahead(self.showers):
            for visit in (self.counts, self.brightest, count):
                visit(start, flat, conditions)
            start += len(flat)

    def _observe(self, start: int, energies: NDArray[np.float32], conditions: Conditions) -> None:
        self.columns.append(self._cluster.of(energies, conditions) | self._around.of(energies))


def read_reference(
    showers: Showers, *, threshold_mev: float | None, report: Progress, keep: float | None = None
) -> Reading:
    """Read the reference, twice, since the range of its cells must be known before they are counted.

    Args:
        showers: they decide about thresholds, bins and the brightest cells.
        threshold_mev: lower edge of the energy histograms, or None for `default_threshold`.
        report: told about progress.
        keep: as `Reading` has it.

    Raises:
        DataError: no shower has any energy.
    """
    depth = depth_of_maximum(showers)
    reading = Reading(showers, depth, keep=keep)
    reading.read("reference", report)
    smallest, largest = reading.span.smallest, reading.span.largest
    if largest <= 0:
        raise DataError("no reference shower has any energy; there is nothing to compare with")
    if threshold_mev is None:
        threshold_mev = default_threshold(showers.mesh, smallest, largest)
    edges = log_edges(threshold_mev, largest, CELL_EDGES)
    reading.count_by(Scales(depth, edges, choose_cells(reading.mean.cells)))
    reading.read_again("reference", report)
    return reading


def read_sample(
    showers: Showers, name: str, scales: Scales, report: Progress, keep: float | None = None
) -> Reading:
    """Read another sample, called ``name``, once; DataError where none of its showers has any energy."""
    reading = Reading(showers, scales.depth_mm, scales, keep)
    reading.read(name, report)
    if reading.span.largest <= 0:
        raise DataError(f"none of the {name} has any energy; there is nothing to judge")
    return reading


def cell_range(reference: Reading, generated: Reading) -> CellRange:
    """Smallest and largest cells of two samples, and how many of each are below the smallest of the other."""
    return CellRange(
        **of_both(reference.span, generated.span, "smallest", "largest", "hits"),
        reference_below=reference.span.below(generated.span.smallest, reference.counts),
        generated_below=generated.span.below(reference.span.smallest, generated.counts),
    )


def _counter(report: Progress, text: str, n: int) -> Visitor:
    """A visitor that reports how many of n showers are read."""

    def visit(start: int, energies: NDArray[np.float32], conditions: Conditions) -> None:
        report(text, (start + len(energies)) / n)

    return visit
