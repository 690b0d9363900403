"""Single numbers with what makes them readable: their uncertainty and what chance alone would give."""

from __future__ import annotations

import math
from typing import Literal

from caloforge.evaluation.results.base import Number, Result

__all__ = ["Comparison", "Estimate", "Separation", "Significance"]


class Separation(Result):
    """A separation power with the value expected from chance alone."""

    value: Number
    """S in [0, 1]."""
    floor: Number
    """Mean S where the showers of both are shuffled and dealt out again in these numbers."""
    floor_std: Number
    """Its standard deviation; S above ``floor + 3 floor_std`` is a real difference."""
    error: Number = 0.0
    """Standard deviation of S over bootstrap samples of both."""


class Estimate(Result):
    """A metric with its uncertainty, its floor and the value of a perfect generator."""

    value: Number
    """The metric."""
    error: Number = math.nan
    """One standard deviation, from resampling or repeated trainings; NaN where it is not known."""
    floor: Number = math.nan
    """What two samples of one origin and these sizes give; NaN where it was not measured."""
    floor_error: Number = math.nan
    """One standard deviation of that."""
    floor_from: str = ""
    """Where the floor comes from: ``permutation``, ``split of the reference``, ``second reference``,
    ``expectation`` or, without one, nothing."""
    ideal: Number = 0.0
    """The value of a perfect generator in the limit of infinitely many showers."""
    higher_is_better: bool = False
    """For metrics such as precision and recall."""
    p_value: Number = math.nan
    """Share of random deals of both samples that give as much, where these were made."""
    showers: tuple[int, int] | None = None
    """Reference and generated showers it comes from, where these are fewer than all or matter."""
    outside: int = 0
    """Cells that its range does not hold, taken as the range's ends."""
    note: str = ""
    """One sentence of `caloforge.report` where the number must not be held against published ones or says
    nothing."""

    def sigmas(self) -> float:
        """Distance from the floor (or the ideal) towards worse in standard deviations; NaN if unknown.

        Error and floor_error are added in quadrature where the floor was measured. Where it is known exactly,
        by ``expectation``, its error is how the metric itself scatters by chance, and counts alone.
        """
        centre = self.ideal if math.isnan(self.floor) else self.floor
        errors = [e for e in (self.error, self.floor_error) if math.isfinite(e)]
        spread = math.hypot(*errors) if errors else math.nan
        if self.floor_from == "expectation" and self.floor_error > 0:
            spread = self.floor_error
        distance = centre - self.value if self.higher_is_better else self.value - centre
        return distance / spread if spread > 0 else math.nan


class Significance(Result):
    """How far a number lies beyond what chance gives, and what that says."""

    sigmas: Number
    """In standard deviations, towards worse."""
    says: Literal["agrees", "hint", "told apart", "below chance", "not known"]
    """``agrees`` below two, ``hint`` below three, ``told apart`` from three on; ``below chance`` from minus
    three on."""


class Comparison(Result):
    """Mean and standard deviation over the showers of one feature in both samples, in the feature's unit."""

    reference_mean: Number
    reference_std: Number
    generated_mean: Number
    generated_std: Number

    @classmethod
    def of(cls, reference: tuple[float, float], generated: tuple[float, float]) -> Comparison:
        """Of mean and standard deviation of each sample."""
        (m1, s1), (m2, s2) = reference, generated
        return cls(reference_mean=m1, reference_std=s1, generated_mean=m2, generated_std=s2)
