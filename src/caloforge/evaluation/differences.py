"""Where an evaluation shows differences that are more than chance, and how large they are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from caloforge.evaluation.classifiers.scores import auc_error
from caloforge.evaluation.results import (
    ClassifierResult,
    Estimate,
    Evaluation,
    Histogram,
    Separation,
    Shift,
    Slice,
)
from caloforge.evaluation.significance import SIGMAS, beyond_chance, detectable_auc, excess

__all__ = [
    "classifier_auc",
    "classifier_floor",
    "noticeable",
    "noticeable_auc",
    "response_shift",
    "strongest_shift",
    "sure_shifts",
    "uneven_slices",
    "worst_features",
]

SURE = {"layer": 0.005, "cell": 0.001, "neighbours": 0.001}
"""Corrected p-values below which a place is taken to differ: together below a false alarm in a hundred."""


def classifier_floor(result: ClassifierResult) -> tuple[float, float]:
    """AUC of samples that do not differ, and how it scatters."""
    if result.auc_floor is None:
        return 0.5, result.auc_noise
    return result.auc_floor, max(result.auc_floor_std or 0.0, result.auc_noise)


def classifier_auc(result: ClassifierResult) -> Estimate:
    """The AUC: its error is the spread of several trainings, else that of the one validation sample."""
    floor, spread = classifier_floor(result)
    return Estimate(
        value=result.auc,
        error=result.auc_std if len(result.aucs) > 1 else auc_error(result.auc, result.showers[2]),
        floor=floor,
        floor_error=spread,
        floor_from="expectation" if result.auc_floor is None else "split of the reference",
        ideal=0.5,
    )


def noticeable(result: ClassifierResult) -> float:
    """The AUC from which on this classifier would tell the samples apart."""
    floor, spread = classifier_floor(result)
    scatter = spread if result.auc_floor is None else math.hypot(spread, result.auc_noise)
    return floor + SIGMAS * scatter


def noticeable_auc(evaluation: Evaluation) -> tuple[float, float]:
    """The smallest AUC of a classifier, and of a single feature, that would be noticed; NaN without any."""
    by_network = min(map(noticeable, evaluation.classifiers.values()), default=math.nan)
    return by_network, detectable_auc(evaluation.histograms)


def worst_features(evaluation: Evaluation, n: int = 5) -> list[Histogram]:
    """The ``n`` features that differ most: of those beyond chance, by their `excess`."""
    named = beyond_chance(evaluation.histograms)
    chosen = [h for h, beyond in zip(evaluation.histograms, named, strict=True) if beyond]
    return sorted(chosen, key=excess, reverse=True)[:n]


def response_shift(evaluation: Evaluation) -> tuple[Estimate, Estimate] | None:
    """Relative shift of the mean of ΣE/E_inc and of its relative spread, with errors; None where unknown.

    The error of the spread is that of a normal distribution.
    """
    compared = evaluation.features.get("e_ratio")
    if compared is None or compared.reference_mean <= 0 or compared.generated_mean <= 0:
        return None
    counts = [evaluation.counts["reference"], evaluation.counts["generated"]]
    relative = [
        compared.reference_std / compared.reference_mean,
        compared.generated_std / compared.generated_mean,
    ]
    mean_error = math.hypot(*(r / math.sqrt(n) for r, n in zip(relative, counts, strict=True)))
    mean = Estimate(value=compared.generated_mean / compared.reference_mean - 1, error=mean_error)
    if relative[0] <= 0:
        return mean, Estimate(value=math.nan)
    spread_error = math.sqrt(sum(1 / (2 * n) for n in counts))
    return mean, Estimate(value=relative[1] / relative[0] - 1, error=spread_error)


def sure_shifts(evaluation: Evaluation, kind: str) -> list[Shift]:
    """The layers, cells or pairs of neighbours whose means certainly differ."""
    found = evaluation.localisation.shifts if evaluation.localisation is not None else []
    return [shift for shift in found if shift.kind == kind and shift.p_value < SURE[kind]]


def strongest_shift(evaluation: Evaluation) -> Shift | None:
    """The layer whose mean differs most significantly; else the cell or pair; None where none does."""
    for kind in SURE:
        shifts = sure_shifts(evaluation, kind)
        if shifts:
            return max(shifts, key=lambda shift: abs(shift.z))
    return None


def uneven_slices(parts: Sequence[Slice]) -> tuple[Slice, float, float] | None:
    """The slice that is worse than the mean of the others by more than chance, its excess and theirs.

    None where no slice is.
    Compared are separation powers above their floors, mean over the groups of features. Groups may be fully
    correlated, so the error of that mean is the mean of their errors; the limit is raised for the number of
    slices.
    """
    excesses = np.array([np.mean([s.value - s.floor for s in part.separation.values()]) for part in parts])
    error = np.array([np.mean([_error(s) for s in part.separation.values()]) for part in parts])
    k = int(np.argmax(excesses))
    others, n = np.delete(excesses, k), len(parts) - 1
    spread = math.hypot(error[k], float(np.sqrt((np.delete(error, k) ** 2).sum())) / n)
    limit = SIGMAS + 0.5 * math.log(len(parts))  # about three standard deviations for the largest of them
    mean = float(others.mean())
    if excesses[k] - mean <= limit * spread or excesses[k] < 1.5 * max(mean, 0.0):
        return None
    return parts[k], float(excesses[k]), mean


def _error(separation: Separation) -> float:
    return math.hypot(separation.error, separation.floor_std)
