"""Moments of the response in bins, and the fit of the resolution against the energy.

Legend: ``N`` showers, ``B`` bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.evaluation.packages import needed
from caloforge.evaluation.results import ResolutionFit

__all__ = ["BinnedResponse", "binned_response", "fit_resolution"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST_SHOWERS = 20
"""Showers that a bin must have to enter the fit."""
LEAST_BINS = 4
LEAST_SPAN = 4.0
"""Largest over smallest mean energy of the bins that the fit asks for; the three terms look alike below."""
ITERATIONS = 5


@dataclass(frozen=True, eq=False)
class BinnedResponse:
    """Response of one sample in bins, each (B,); NaN where a bin has fewer than two showers.

    Attributes:
        count: showers.
        response, response_error: mean of ΣE/E_inc and its standard error.
        spread: standard deviation of ΣE/E_inc.
        resolution, resolution_error: spread / response and its standard error.
    """

    count: Floats
    response: Floats
    response_error: Floats
    spread: Floats
    resolution: Floats
    resolution_error: Floats


def binned_response(ratio: Floats, bins: Ints, n_bins: int) -> BinnedResponse:
    """Mean, spread and relative spread of the response in bins.

    The error of the relative spread r = s/m follows from the second, third and fourth central moments of the
    showers themselves (delta method), so that it is right for distributions that are not Gaussian:
    var(r)/r² = (μ₄ − s⁴)/(4 n s⁴) + s²/(n m²) − μ₃/(n s² m).

    Args:
        ratio: ΣE/E_inc, (N,).
        bins: bin of each shower, (N,); −1 for none.
        n_bins: B.
    """
    inside = bins >= 0
    where, values = bins[inside], ratio[inside].astype(np.float64)
    count = np.bincount(where, minlength=n_bins).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(where, weights=values, minlength=n_bins) / count
        deviation = values - mean[where]
        second, third, fourth = (
            np.bincount(where, weights=deviation**k, minlength=n_bins) / count for k in (2, 3, 4)
        )
        variance = np.where(count > 1, second * count / (count - 1), np.nan)
        spread = np.sqrt(variance)
        mean = np.where(count > 1, mean, np.nan)
        resolution = np.where(mean > 0, spread / mean, np.nan)
        relative = (
            (fourth - second**2) / (4 * count * second**2)
            + second / (count * mean**2)
            - third / (count * second * mean)
        )
        error = resolution * np.sqrt(np.maximum(relative, 0.0))
    return BinnedResponse(count, mean, spread / np.sqrt(np.maximum(count, 1)), spread, resolution, error)


def fit_resolution(sample: BinnedResponse, energy_gev: Floats, bins: Ints) -> ResolutionFit | None:
    """Fit (σ/E)² = a²⟨1/E⟩ + b²⟨1/E²⟩ + c² to the squared resolutions by weighted least squares.

    Linear in a², b² and c², which are kept from being negative. Averages of 1/E and 1/E² over the showers of
    a bin stand for the energy, so that wide bins cause no bias. Weights come from the fitted curve and not
    from the measured points, since points that fluctuate down would otherwise count more.

    None where it cannot be had: fewer than four bins of at least 20 showers, or mean energies that span less
    than a factor of 4.

    Args:
        sample: response in bins of the energy.
        energy_gev: incident energies, GeV, (N,).
        bins: bin of each shower, (N,); −1 for none.
    """
    nnls = needed("scipy.optimize").nnls
    inside = bins >= 0
    where, energy = bins[inside], energy_gev[inside]
    n_bins = len(sample.count)
    used = (sample.count >= LEAST_SHOWERS) & (sample.resolution_error > 0)
    if used.sum() < LEAST_BINS:
        return None
    count = sample.count[used]
    mean, inverse, squared = (
        np.bincount(where, weights=energy**k, minlength=n_bins)[used] / count for k in (1, -1, -2)
    )
    if mean.max() < LEAST_SPAN * mean.min():
        return None
    terms = np.stack([inverse, squared, np.ones_like(inverse)], axis=1)
    scale = np.abs(terms).max(axis=0)
    measured = sample.resolution[used] ** 2
    relative_error = 2 * sample.resolution_error[used] / sample.resolution[used]
    curve = measured
    for _ in range(ITERATIONS):
        sigma = relative_error * curve
        found, _ = nnls(terms / scale / sigma[:, None], measured / sigma)
        curve = np.maximum(terms / scale @ found, 1e-12 * measured.max())
    free = found > 0
    design = (terms / scale / sigma[:, None])[:, free]
    variances = np.full(3, np.nan)
    variances[free] = np.diag(np.linalg.pinv(design.T @ design))
    values = np.sqrt(found / scale)
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.where(free, np.sqrt(variances) / scale / (2 * values), np.nan)
    chi2 = float((((measured - curve) / sigma) ** 2).sum())
    (a, b, c), (da, db, dc) = values.tolist(), errors.tolist()
    return ResolutionFit(
        stochastic=a,
        noise=b,
        constant=c,
        stochastic_error=da,
        noise_error=db,
        constant_error=dc,
        chi2=chi2,
        ndf=int(used.sum() - free.sum()),
    )
