"""Neighbourhoods of two samples, number by number: their means, and the AUC of each number alone.

Legend: ``N`` showers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from caloforge.detector import Mesh
from caloforge.evaluation.classifiers.scores import auc, auc_noise, delong_error
from caloforge.evaluation.physics.plans import describe
from caloforge.evaluation.results import Estimate, NeighbourhoodMetric

__all__ = ["compare_neighbourhoods"]

Floats = NDArray[np.float64]


def compare_neighbourhoods(
    reference: Mapping[str, Floats],
    generated: Mapping[str, Floats],
    mesh: Mesh,
    second: Mapping[str, Floats] | None = None,
) -> dict[str, NeighbourhoodMetric]:
    """Every neighbourhood observable of two samples.

    The floor of a difference of means is 0, with what showers that are dealt out again scatter by, and that
    of an AUC 0.5 with `auc_noise`; with a second reference both are what it gives against the reference.

    Args:
        reference, generated: of `NeighbourhoodObservables.columns`, each (N,).
        mesh: of the showers.
        second: of a second reference.
    """
    found = {}
    for name in reference:
        samples = [sample[name] for sample in (reference, generated, second or {}) if name in sample]
        first, other, *third = (values[np.isfinite(values)] for values in samples)
        if min(len(first), len(other), *map(len, third)) < 2:
            continue
        (mean, error), (made, made_error) = _mean(first), _mean(other)
        what = describe(name, mesh)
        found[name] = NeighbourhoodMetric(
            label=what.label,
            group=what.group,
            place=what.place,
            reference_mean=mean,
            reference_error=error,
            generated_mean=made,
            generated_error=made_error,
            difference=_difference(first, other, *third),
            auc=_alone(first, other, *third),
        )
    return found


def _mean(values: Floats) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))


def _difference(first: Floats, other: Floats, third: Floats | None = None) -> Estimate:
    (mean, error), (made, made_error) = _mean(first), _mean(other)
    if third is None:
        pooled = float(np.concatenate([first, other]).std(ddof=1))
        floor, origin = (0.0, pooled * math.sqrt(1 / len(first) + 1 / len(other))), "permutation"
    else:
        again, again_error = _mean(third)
        floor, origin = (again - mean, math.hypot(error, again_error)), "second reference"
    return Estimate(
        value=made - mean,
        error=math.hypot(error, made_error),
        floor=floor[0],
        floor_error=floor[1],
        floor_from=origin,
    )


def _alone(first: Floats, other: Floats, third: Floats | None = None) -> Estimate:
    """AUC of the number alone, whichever way it is larger."""
    value, error = _auc(first, other)
    floor, noise, origin = 0.5, auc_noise(len(first), len(other)), "expectation"
    if third is not None:
        (floor, noise), origin = _auc(first, third), "second reference"
    return Estimate(value=value, error=error, floor=floor, floor_error=noise, floor_from=origin, ideal=0.5)


def _auc(first: Floats, other: Floats) -> tuple[float, float]:
    labels = np.repeat([1, 0], [len(first), len(other)])
    area = float(auc(np.concatenate([first, other]), labels))
    return max(area, 1 - area), delong_error(first, other)
