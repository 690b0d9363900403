"""Single numbers with what makes them readable: their uncertainty and what chance alone would give."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Comparison", "Estimate", "Separation"]


@dataclass(frozen=True)
class Separation:
    """A separation power with the value expected from chance alone.

    Attributes:
        value: S in [0, 1].
        floor: mean S where the showers of both are shuffled and dealt out again in these numbers.
        floor_std: its standard deviation; S above ``floor + 3 floor_std`` is a real difference.
        error: standard deviation of S over bootstrap samples of both.
    """

    value: float
    floor: float
    floor_std: float
    error: float = 0.0


@dataclass(frozen=True)
class Estimate:
    """A metric with its uncertainty, its floor and the value of a perfect generator.

    Attributes:
        value: the metric.
        error: one standard deviation, from resampling or repeated trainings; NaN where it is not known.
        floor: what two samples of one origin and these sizes give; NaN where it was not measured.
        floor_error: one standard deviation of that.
        floor_from: where the floor comes from: ``permutation``, ``split of the reference``,
            ``second reference``, ``expectation`` or, without one, nothing.
        ideal: the value of a perfect generator in the limit of infinitely many showers.
        higher_is_better: for metrics such as precision and recall.
        note: one sentence where the number must not be held against published ones or says nothing.
    """

    value: float
    error: float = math.nan
    floor: float = math.nan
    floor_error: float = math.nan
    floor_from: str = ""
    ideal: float = 0.0
    higher_is_better: bool = False
    note: str = ""

    def sigmas(self) -> float:
        """Distance from the floor (or the ideal) towards worse in standard deviations; NaN if unknown.

        The larger of error and floor_error counts once each, added in quadrature.
        """
        centre = self.ideal if math.isnan(self.floor) else self.floor
        errors = [e for e in (self.error, self.floor_error) if math.isfinite(e)]
        spread = math.hypot(*errors) if errors else math.nan
        distance = centre - self.value if self.higher_is_better else self.value - centre
        return distance / spread if spread > 0 else math.nan


@dataclass(frozen=True)
class Comparison:
    """Mean and standard deviation over the showers of one feature in both samples, in the feature's unit."""

    reference_mean: float
    reference_std: float
    generated_mean: float
    generated_std: float
