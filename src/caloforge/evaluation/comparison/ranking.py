"""Which of several models is better, in which metric, and is the difference more than the errors?

Legend: ``M`` models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.errors import DataError
from caloforge.evaluation.differences import classifier_auc
from caloforge.evaluation.results import (
    ClassifierResult,
    Column,
    ComparedModel,
    Estimate,
    Evaluation,
    Histogram,
    Separation,
)
from caloforge.evaluation.significance import (
    SIGMAS,
    beyond_chance,
    chance_sigmas,
    detectable_auc,
    equivalent_auc,
)

__all__ = [
    "RANK_SIGMAS",
    "badness",
    "best_model",
    "clearly_better",
    "common_floor",
    "is_quality",
    "metrics_of",
    "pareto_front",
    "pareto_names",
    "quality_keys",
    "sigmas_above_floor",
    "worst_feature",
]

RANK_SIGMAS = 2.0
"""A model counts as better than another from this many standard deviations of the difference on."""
TIME_SPREAD = 0.05
"""Times of a single run bear no error; differences count from `RANK_SIGMAS` times this on, in quadrature."""
TIMES = ("ms", "speed_up")


def metrics_of(evaluation: Evaluation) -> dict[str, Estimate]:
    """Every single number of an evaluation that models can be compared by, in the order of the table.

    ``auc_<classifier>``, ``fpd``, ``kpd``, ``ms``, ``speed_up``, ``jsd_<classifier>``, ``precision``, …,
    ``worst_feature``, ``separation_<group>`` (mean over the layers). The floor of the times is Geant4's own.
    """
    found: dict[str, Estimate] = {}
    for name, result in evaluation.classifiers.items():
        found[f"auc_{name}"] = classifier_auc(result)
    distances = dict(evaluation.distances)
    found |= {key: distances.pop(key) for key in ("fpd", "kpd") if key in distances}
    timing = evaluation.timing
    if timing.generator_ms is not None:
        geant4 = math.nan if timing.geant4_ms is None else timing.geant4_ms
        found["ms"] = Estimate(value=timing.generator_ms, floor=geant4, floor_from="Geant4")
    if timing.speed_up is not None:
        found["speed_up"] = Estimate(
            value=timing.speed_up, floor=1.0, floor_from="Geant4", ideal=math.nan, higher_is_better=True
        )
    for name, result in evaluation.classifiers.items():
        spread = result.jsd_std if len(result.jsds) > 1 else math.nan
        found[f"jsd_{name}"] = Estimate(value=result.jsd, error=spread, floor=0.0, floor_from="expectation")
        if name == "c2st" and result.error_rate is not None:
            found["error_rate_c2st"] = _error_rate(result)
    found |= distances
    found |= {f"correlation_{name}": c.distance for name, c in evaluation.correlations.items()}
    found |= {f"linearity_{curve.condition}": curve.linearity for curve in evaluation.responses}
    if evaluation.memorisation is not None:
        found["nearer_training"] = evaluation.memorisation.nearer
    if evaluation.histograms:
        found["worst_feature"] = worst_feature(evaluation.histograms)
    for group, s in evaluation.group_separation().items():
        found[f"separation_{group}"] = Estimate(
            value=s.value, error=s.error, floor=s.floor, floor_error=s.floor_std, floor_from="permutation"
        )
    return found


def worst_feature(histograms: Sequence[Histogram]) -> Estimate:
    """The AUC that the feature which differs most would give alone; 0.5 where none differs beyond chance.

    From its separation power above chance by `equivalent_auc`.
    """
    named = zip(histograms, beyond_chance(histograms), strict=True)
    differing = [histogram.separation for histogram, beyond in named if beyond]
    value, error, floor_error = 0.5, (detectable_auc(histograms) - 0.5) / SIGMAS, math.nan
    if differing:
        worst = max(differing, key=lambda s: s.value - s.floor)
        excess, spread = worst.value - worst.floor, math.hypot(worst.error, worst.floor_std)
        value = equivalent_auc(excess)
        error = (equivalent_auc(excess + spread) - equivalent_auc(excess - spread)) / 2
    else:
        floor_error = error
    return _of_half(value, error, floor_error, "permutation")


def _of_half(value: float, error: float, floor_error: float, origin: str) -> Estimate:
    """An AUC or error rate: 0.5 is ideal."""
    return Estimate(
        value=value, error=error, floor=0.5, floor_error=floor_error, floor_from=origin, ideal=0.5
    )


def _error_rate(result: ClassifierResult) -> Estimate:
    assert result.error_rate is not None
    p, n = result.error_rate, 2 * result.showers[2]
    error = result.error_rate_std if len(result.aucs) > 1 else math.sqrt(p * (1 - p) / n)
    spread = math.nan if error is None else error
    return _of_half(p, spread, 0.5 / math.sqrt(n), "expectation").replace(higher_is_better=True)


def badness(estimate: Estimate) -> float:
    """Distance from the ideal towards worse; beyond the ideal is no better than the ideal itself."""
    sign = -1.0 if estimate.higher_is_better else 1.0
    if math.isnan(estimate.ideal):
        return sign * estimate.value
    return max(sign * (estimate.value - estimate.ideal), 0.0)


def clearly_better(key: str, first: Estimate, second: Estimate) -> bool:
    """True where the first is better by more than `RANK_SIGMAS` standard deviations of the difference.

    False where an error is not known, but for times, which are taken as known to 5 %.
    """
    spread = math.hypot(_ranking_error(key, first), _ranking_error(key, second))
    return badness(second) - badness(first) > RANK_SIGMAS * spread


def _ranking_error(key: str, estimate: Estimate) -> float:
    """FPD's and KPD's own errors are those of their protocols; other showers scatter as their floors do."""
    if key in TIMES and math.isnan(estimate.error):
        return TIME_SPREAD * estimate.value
    if key in ("fpd", "kpd", "fpd_trimmed") and math.isfinite(estimate.floor_error):
        return max(estimate.error, estimate.floor_error)
    return estimate.error


def sigmas_above_floor(key: str, estimate: Estimate) -> float:
    """How many standard deviations a metric lies above what chance gives; NaN if that is not known."""
    if key.startswith("separation_"):
        e = estimate
        return chance_sigmas(Separation(value=e.value, floor=e.floor, floor_std=e.floor_error))
    return estimate.sigmas()


def common_floor(estimates: Sequence[Estimate]) -> Estimate:
    """Mean of the floors, with the mean of their errors."""
    first = estimates[0]
    known = [(e.floor, e.floor_error) for e in estimates if math.isfinite(e.floor)]
    if not known:
        return Estimate(value=math.nan, ideal=first.ideal, higher_is_better=first.higher_is_better)
    value, error = (float(x) for x in np.mean(known, axis=0))
    return Estimate(value=value, error=error, ideal=first.ideal, higher_is_better=first.higher_is_better)


def best_model(key: str, metrics: Mapping[str, Mapping[str, Estimate]]) -> str:
    known = {name: m[key] for name, m in metrics.items() if key in m and math.isfinite(m[key].value)}
    if len(known) < 2:
        return ""
    best = min(known, key=lambda name: badness(known[name]))
    others = [estimate for name, estimate in known.items() if name != best]
    return best if all(clearly_better(key, known[best], other) for other in others) else ""


def is_quality(key: str) -> bool:
    """True for metrics of how near the showers are, False for times."""
    return key not in TIMES


def quality_keys(columns: Sequence[Column]) -> list[str]:
    """The metrics drawn against time: every AUC, without classifiers the worst feature's, and FPD."""
    found = [c.key for c in columns if c.key.startswith("auc_")]
    others = ("fpd",) if found else ("worst_feature", "fpd")
    return found + [c.key for c in columns if c.key in others]


def pareto_front(points: ArrayLike) -> NDArray[np.int64]:
    """Numbers of the points to which no other is at least as good in everything and better in something.

    Args:
        points: (M, K) values of which smaller is better; rows with NaN are on no front.

    Returns:
        Ascending numbers of rows. Equal points are all on the front or all off it.

    Raises:
        DataError: the points do not form a table.
    """
    table = np.asarray(points, dtype=np.float64)
    if table.ndim != 2:
        raise DataError(f"points must be a table (models, quantities), got shape {table.shape}")
    no_worse = (table[:, None] <= table[None]).all(axis=2)  # first row against second
    better = (table[:, None] < table[None]).any(axis=2)
    dominated = (no_worse & better).any(axis=0)
    return np.flatnonzero(~dominated & ~np.isnan(table).any(axis=1))


def pareto_names(key: str, models: Sequence[ComparedModel]) -> list[str]:
    """Models on the Pareto front of time and one quality metric, fastest first; those with both known."""
    known = [m for m in models if key in m.metrics and "ms" in m.metrics]
    if not known:
        return []
    points = [(m.metrics["ms"].value, badness(m.metrics[key])) for m in known]
    front = [known[i] for i in pareto_front(points)]
    return [m.name for m in sorted(front, key=lambda m: m.metrics["ms"].value)]
