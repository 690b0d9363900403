"""Single observables held against the reference one by one."""

from __future__ import annotations

from caloforge.evaluation.results.base import Number, Result
from caloforge.evaluation.results.numbers import Estimate

__all__ = ["EquivalentShowers", "NeighbourhoodMetric"]


class NeighbourhoodMetric(Result):
    """One number a shower about the neighbours of its lit cells; its ``separation`` goes by the same name."""

    label: str
    """In words."""
    group: str
    """``isolated``, ``isolated_ring``, ``pairs_phi``, …: that of its histogram."""
    place: int | None
    """Ring, from 0, layer (the detector's number) or distance in cells; None for the whole shower."""
    reference_mean: Number
    """Over the showers to which it applies."""
    reference_error: Number
    """Standard error of the mean."""
    generated_mean: Number
    generated_error: Number
    difference: Estimate
    """Generated − reference mean; the floor is that of two samples of Geant4."""
    auc: Estimate
    """AUC of this number alone as the score, 0.5 or more; its error after E. R. DeLong et al., Biometrics 44
    (1988) 837."""


class EquivalentShowers(Result):
    """How many showers of Geant4 know an observable as well as arbitrarily many of the generator's."""

    showers: Number
    """Geant4 showers whose statistical error is the generator's bias; NaN where no bias is seen."""
    at_least: Number
    """The same for a bias two standard deviations larger: so many at least."""
    bins: int
    """Of the profile; 1 for a mean."""
