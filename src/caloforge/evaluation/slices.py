"""Every metric per bin of a condition: does the quality hold at all energies, angles and detectors?

Legend: ``N`` showers of both samples, ``n`` of them in a slice, ``Z`` histograms of a group, ``B`` bins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Conditions, pdg_name
from caloforge.data.matching import discrete_values, within
from caloforge.data.quantities import whole_number
from caloforge.errors import ConditionError
from caloforge.evaluation.classifiers.scores import auc, auc_noise, delong_error
from caloforge.evaluation.distances.matrix import taken
from caloforge.evaluation.features import Features
from caloforge.evaluation.histograms import CellCounts, HistogramPlan, discrete_energies
from caloforge.evaluation.results import Comparison, Estimate, Scores, Separation, Slice
from caloforge.evaluation.separation import bin_places, cell_separation, separation_powers
from caloforge.evaluation.tables import row_blocks

__all__ = ["FEW_IN_SLICE", "SliceSpec", "default_slices", "slice_edges", "slice_metrics"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Distances = Callable[[Floats, Floats], Mapping[str, Estimate]]

FEW_IN_SLICE = 100
"""Showers of one sample below which a slice says nothing."""
REPEATS = 50
"""Pairs of samples dealt out for a floor."""
FEWEST_BLOCKS, MOST_BLOCKS = 200, 1000
_NUMBERS = {"energy": "MeV", "theta": "rad", "phi": "rad", "impact_x": "mm", "impact_y": "mm"}
_NAMES = ("detector", "particle")
_TITLES = {"theta": "θ", "phi": "φ", "impact_x": "impact x", "impact_y": "impact y"}


@dataclass(frozen=True)
class SliceSpec:
    """One bin of a condition.

    Attributes:
        condition: ``energy`` (MeV), ``theta``, ``phi`` (rad), ``impact_x``, ``impact_y`` (mm), ``detector``,
            ``particle``.
        low, high: of the bin, [low, high), or [low, high] if ``closed``; NaN for names.
        label: in words, with the unit.
        name: of the detector, or PDG code of the particle.
        closed: whether ``high`` belongs to the bin: the last one, or a discrete value.
    """

    condition: str
    low: float
    high: float
    label: str
    name: str | int = ""
    closed: bool = False

    def holds(self, conditions: Conditions) -> Mask:
        """Which showers are in the bin, (N,)."""
        values = _values(conditions, self.condition)
        if self.condition in _NAMES:
            return np.asarray(values == self.name)
        return within(values, self.low, self.high, closed=self.closed)


def _values(conditions: Conditions, name: str) -> NDArray[Any]:
    """A condition of each shower, (N,); ConditionError where impact points are not known."""
    if not name.startswith("impact_"):
        return np.asarray(getattr(conditions, name))
    if conditions.impact is None:
        raise ConditionError(f"cannot slice in {name}: the impact points are not known")
    return conditions.impact[:, "xy".index(name[-1])]


def default_slices(reference: Conditions, *others: Conditions) -> dict[str, int]:
    """What to slice where nothing is asked for: what varies and is known of all; the energy in 4 bins."""
    wanted = {"energy": 4, "theta": 3, "phi": 3, "impact_x": 3, "impact_y": 3, "detector": 1, "particle": 1}
    if any(c.impact is None for c in (reference, *others)):
        del wanted["impact_x"], wanted["impact_y"]
    return {name: n for name, n in wanted.items() if _varies(_values(reference, name))}


def _varies(values: NDArray[Any]) -> bool:
    """Whether there are several values, by more than rounding."""
    if values.dtype.kind != "f":
        return len(np.unique(values)) > 1
    return not len(discrete_values(values, most=1))


def slice_edges(
    reference: Conditions, generated: Conditions, spec: Mapping[str, int | Sequence[float]] | None = None
) -> list[SliceSpec]:
    """The bins to slice both samples in.

    Args:
        reference, generated: conditions of the two samples.
        spec: by condition, the number of bins, which then hold equally many reference showers each, or their
            edges (MeV, rad, mm). Where a number is given and the reference has few distinct values (energies
            of data set 1) each value is a bin. Detectors and particles have a bin a name, whatever is given.
            None is `default_slices`. The outermost of equally filled bins reach out to the generated showers,
            so that every shower is in one.

    Raises:
        ConditionError: an unknown condition, fewer than one bin, or edges that do not increase.
    """
    bins: list[SliceSpec] = []
    for condition, wanted in (default_slices(reference, generated) if spec is None else spec).items():
        if condition in _NAMES:
            values = [_values(c, condition) for c in (reference, generated)]
            names = np.unique(np.concatenate(values)).tolist()
            words = [pdg_name(v) if condition == "particle" else v or "unknown" for v in names]
            bins += [
                SliceSpec(condition, math.nan, math.nan, f"{condition} {word}", name)
                for name, word in zip(names, words, strict=True)
            ]
        elif condition in _NUMBERS:
            first, second = (_values(c, condition) for c in (reference, generated))
            bins += _number_bins(condition, first, second, wanted)
        else:
            known = ", ".join((*_NUMBERS, *_NAMES))
            raise ConditionError(f"cannot slice in {condition!r}; expected some of {known}")
    return bins


def _number_bins(
    condition: str, first: Floats, second: Floats, wanted: int | Sequence[float]
) -> list[SliceSpec]:
    if np.ndim(wanted) == 0:
        number = whole_number(f"the number of slices in {condition}", wanted)
        if number > len(first):
            raise ConditionError(f"{number:,} slices in {condition} are more than the {len(first):,} showers")
        distinct = discrete_energies(first)
        if len(distinct):
            return [SliceSpec(condition, v, v, _label(condition, v), closed=True) for v in distinct.tolist()]
        inner = np.quantile(first, np.linspace(0, 1, number + 1)[1:-1])
        both = np.concatenate([first, second])
        edges = np.unique([both.min(), *inner, both.max()])
    else:
        edges = np.asarray(wanted, dtype=np.float64)
        if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
            raise ConditionError(
                f"edges of slices in {condition} must be two or more that increase: {wanted}"
            )
    if len(edges) == 1:
        return [SliceSpec(condition, edges[0], edges[0], _label(condition, edges[0]), closed=True)]
    spans = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    return [
        SliceSpec(condition, a, b, _label(condition, a, b), closed=i == len(spans) - 1)
        for i, (a, b) in enumerate(spans)
    ]


def _label(condition: str, *values: float) -> str:
    unit = _NUMBERS[condition]
    if unit == "MeV" and max(values) >= 1000:
        values, unit = tuple(v / 1000 for v in values), "GeV"
    return f"{_TITLES.get(condition, condition)} {' to '.join(f'{v:.3g}' for v in values)} {unit}"


def slice_metrics(
    reference: Features,
    generated: Features,
    reference_conditions: Conditions,
    generated_conditions: Conditions,
    specs: Sequence[SliceSpec],
    *,
    plans: Iterable[HistogramPlan],
    cells: tuple[CellCounts, CellCounts] | None = None,
    scores: Mapping[str, Scores] | None = None,
    matrices: tuple[NDArray[Any], NDArray[Any]] | None = None,
    distances: Distances | None = None,
    seed: int = 0,
) -> list[Slice]:
    """The metrics of the showers in each bin.

    Separation powers are means over the histograms of a group. Their floors come from showers dealt out again
    50 times, whole, so that the correlation of layers is in ``floor_std``; ``error`` is that of the first
    order (delta method) and ``floor_std`` added in quadrature.

    Args:
        reference, generated: features of the two samples.
        reference_conditions, generated_conditions: of the same showers.
        specs: the bins, see `slice_edges`.
        plans: histograms of the whole sample, whose bins are used (`histogram_plans`); those without one
            value a shower are left out.
        cells: energies of cells, counted by shower.
        scores: of the trained classifiers by name; their validation showers in the bin give ``auc_<name>``.
        matrices: features of both samples, (N₁, D) and (N₂, D), as `feature_matrix` gives them.
        distances: computes ``fpd``, ``kpd``, … from the rows of these in a slice; called where both samples
            have 100 showers.
        seed: of the floors.
    """
    conditions = reference_conditions, generated_conditions
    masks = [(spec.holds(conditions[0]), spec.holds(conditions[1])) for spec in specs]
    rows = [(np.flatnonzero(first), np.flatnonzero(second)) for first, second in masks]
    separations: list[dict[str, Separation]] = [{} for _ in specs]
    for group in _groups(plans, len(reference), len(generated)):
        for number, chosen in enumerate(rows):
            if min(map(len, chosen)) >= 2:
                separations[number][group.name] = group.separation(chosen, (seed, number))
    found = []
    for number, spec in enumerate(specs):
        first, second = rows[number]
        counts = {"reference": len(first), "generated": len(second)}
        metrics = {f"auc_{name}": e for name, s in (scores or {}).items() if (e := _auc(s, masks[number]))}
        if cells is not None and min(counts.values()) >= 2:
            entries = cells[0].per_shower[first], cells[1].per_shower[second]
            separations[number]["cell_energy"] = cell_separation(*entries, seed=seed)
        if distances is not None and matrices is not None and min(counts.values()) >= FEW_IN_SLICE:
            metrics |= distances(taken(matrices[0], first), taken(matrices[1], second))
        ratios = _mean_and_spread(reference.e_ratio[first]), _mean_and_spread(generated.e_ratio[second])
        found.append(
            Slice(
                condition=spec.condition,
                low=spec.low,
                high=spec.high,
                label=spec.label,
                counts=counts,
                separation=separations[number],
                response=Comparison.of(*ratios),
                metrics=metrics,
            )
        )
    return found


@dataclass(frozen=True, eq=False)
class _Group:
    """Bins of one group's histograms: the slot of every shower of both samples, (N, Z), among Z · S slots."""

    name: str
    slots: NDArray[np.int32]
    n_reference: int
    shape: tuple[int, int]

    def separation(self, rows: tuple[Ints, Ints], seed: tuple[int, int]) -> Separation:
        """Mean separation power of the showers in ``rows`` of each sample, with floor and error."""
        rng = np.random.default_rng(seed)
        first, second = self.slots[rows[0]], self.slots[rows[1] + self.n_reference]
        h1, h2 = self._count(first), self._count(second)
        draws = self._dealt(np.concatenate([first, second]), len(first), rng)
        floors = separation_powers(draws, h1 + h2 - draws).mean(axis=-1)
        spread = float(floors.std())
        error = math.hypot(self._first_order(h1, h2, first), self._first_order(h2, h1, second), spread)
        return Separation(
            value=float(separation_powers(h1, h2).mean()),
            floor=float(floors.mean()),
            floor_std=spread,
            error=error,
        )

    def _count(self, slots: NDArray[np.int32]) -> Floats:
        """Entries in the bins, (Z, B); the first and last slot of a histogram are outside."""
        counts = np.bincount(slots.ravel(), minlength=self.shape[0] * self.shape[1])
        return counts.reshape(self.shape)[:, 1:-1].astype(np.float64)

    def _dealt(self, pooled: NDArray[np.int32], n: int, rng: np.random.Generator) -> Floats:
        """Entries of about n of the pooled showers, taken at random, (REPEATS, Z, B).

        Showers are put into blocks at random, and blocks are dealt out: every shower is counted once for all
        draws. Of at most 1000 showers each is a block.
        """
        share, blocks = n / len(pooled), len(pooled)
        if blocks > MOST_BLOCKS:
            wanted = max(FEWEST_BLOCKS, math.ceil(20 / min(share, 1 - share)))
            blocks = min(wanted, MOST_BLOCKS)
        taken = min(max(round(share * blocks), 1), blocks - 1)
        size = self.shape[0] * self.shape[1]
        place = rng.permutation(len(pooled)) % blocks * size
        entries = np.zeros(blocks * size, dtype=np.int64)
        for rows in row_blocks(len(pooled)):
            entries += np.bincount((place[rows, None] + pooled[rows]).ravel(), minlength=blocks * size)
        chosen = rng.permuted(np.broadcast_to(np.arange(blocks) < taken, (REPEATS, blocks)), axis=1)
        draws = chosen.astype(np.float64) @ entries.reshape(blocks, size).astype(np.float64)
        return draws.reshape(REPEATS, *self.shape)[:, :, 1:-1]

    def _first_order(self, own: Floats, other: Floats, slots: NDArray[np.int32]) -> float:
        """Error of the mean S from the showers of one sample: ∂S/∂h of the bins that a shower is in."""
        n = np.maximum(own.sum(axis=1, keepdims=True), 1.0)
        p, q = own / n, other / np.maximum(other.sum(axis=1, keepdims=True), 1.0)
        difference, total = p - q, np.maximum(p + q, 1e-300)
        slope = difference / total - 0.5 * (difference / total) ** 2
        table = np.zeros(self.shape)
        table[:, 1:-1] = (slope - (p * slope).sum(axis=1, keepdims=True)) / n
        flat = table.ravel()
        return math.sqrt(sum((flat[slots[rows]].mean(axis=1) ** 2).sum() for rows in row_blocks(len(slots))))


def _groups(plans: Iterable[HistogramPlan], n_reference: int, n_generated: int) -> Iterator[_Group]:
    """One group at a time, of the plans that have a value a shower; smaller histograms get empty bins."""
    by_group: dict[str, list[HistogramPlan]] = {}
    for plan in plans:
        if (len(plan.values[0]), len(plan.values[1])) == (n_reference, n_generated):
            by_group.setdefault(plan.group, []).append(plan)
    for name, members in by_group.items():
        size = max(len(plan.edges) for plan in members) + 1
        slots = np.empty((n_reference + n_generated, len(members)), dtype=np.int32)
        for column, plan in enumerate(members):
            place = bin_places(np.concatenate(plan.values), plan.edges)
            slots[:, column] = np.where(place == len(plan.edges), size - 1, place) + column * size
        yield _Group(name, slots, n_reference, (len(members), size))


def _auc(scores: Scores, masks: tuple[Mask, Mask]) -> Estimate | None:
    """AUC of the validation showers in the bin; None where a class has none."""
    real = scores.labels == 1
    inside = np.where(
        real, masks[0][np.where(real, scores.rows, 0)], masks[1][np.where(real, 0, scores.rows)]
    )
    labels, p = scores.labels[inside], scores.probabilities[inside]
    n_real, n_generated = int(labels.sum()), int(len(labels) - labels.sum())
    if min(n_real, n_generated) == 0:
        return None
    return Estimate(
        value=float(auc(p, labels)),
        error=delong_error(p[labels == 1], p[labels == 0]),
        floor=0.5,
        floor_error=auc_noise(n_real, n_generated),
        floor_from="expectation",
        ideal=0.5,
        showers=(n_real, n_generated),
    )


def _mean_and_spread(values: Floats) -> tuple[float, float]:
    return (float(values.mean()), float(values.std())) if len(values) else (math.nan, math.nan)
