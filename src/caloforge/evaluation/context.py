"""What stands around the metrics: were the conditions the same, and what did the showers cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Conditions, Showers
from caloforge.data.matching import matched_conditions
from caloforge.evaluation.histograms import discrete_energies
from caloforge.evaluation.packages import needed
from caloforge.evaluation.results import Timing

__all__ = ["compare_conditions", "geant4_ms_per_gev", "measure_times"]

_COLUMNS = ("energy", "theta", "phi")


def compare_conditions(reference: Conditions, generated: Conditions) -> dict[str, Any]:
    """Are the incident conditions the same? The challenge demands it of the energies.

    ``reference`` and ``generated`` hold the ranges of both samples. For energy, θ and φ, where they vary,
    ``<name>_ks`` is a Kolmogorov-Smirnov test, ``statistic`` and ``p_value``. Where the reference has few
    distinct energies, ``energy_chi2`` tests how many showers each has, with ``ndf``. ``energy_outside`` is
    the share of each sample's showers whose energy is outside the range of the other (or, where energies are
    distinct, is none of the other's).
    """
    stats = needed("scipy.stats")
    reference, generated = matched_conditions([reference, generated])
    result: dict[str, Any] = {"reference": reference.ranges(), "generated": generated.ranges()}
    for name in _COLUMNS:
        first, second = getattr(reference, name), getattr(generated, name)
        if min(first.min(), second.min()) == max(first.max(), second.max()):
            continue
        test = stats.ks_2samp(first, second, method="asymp")
        result[f"{name}_ks"] = {"statistic": float(test.statistic), "p_value": float(test.pvalue)}
    first, second = reference.energy, generated.energy
    distinct = discrete_energies(first)
    if len(distinct):
        statistic, ndf = _populations_chi2(first, second)
        p_value = float(stats.chi2.sf(statistic, ndf))
        result["energy_chi2"] = {"statistic": statistic, "ndf": ndf, "p_value": p_value}
        outside = [float(1 - np.isin(x, y).mean()) for x, y in ((first, second), (second, first))]
    else:
        outside = [_share_outside(x, y) for x, y in ((first, second), (second, first))]
    result["energy_outside"] = {"reference": outside[0], "generated": outside[1]}
    return result


def _populations_chi2(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[float, int]:
    """χ² of the numbers of showers at each energy, for samples of any sizes, and its degrees of freedom."""
    energies, place = np.unique(np.concatenate([first, second]), return_inverse=True)
    a, b = (np.bincount(p, minlength=len(energies)) for p in (place[: len(first)], place[len(first) :]))
    ratio = np.sqrt(len(second) / len(first))
    return float(((a * ratio - b / ratio) ** 2 / (a + b)).sum()), len(energies) - 1


def _share_outside(values: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(((values < other.min()) | (values > other.max())).mean())


def measure_times(reference: Showers, generated: Showers) -> Timing:
    """Time a shower of Geant4 and of the generator, at the generated showers' energies.

    Geant4's time is nearly proportional to the incident energy, so ms per GeV, Σ t / Σ E over the reference,
    is multiplied by the mean generated energy. It comes from the column ``geant4_cpu_seconds``, else from the
    provenance of a simulation; the generator's from ``provenance["performance"]``.
    """
    mean = float(generated.conditions.energy.mean())
    per_gev = geant4_ms_per_gev(reference)
    geant4 = None if per_gev is None else per_gev * mean / 1000
    performance = dict(_performance(generated))
    generator = _positive(performance.get("ms_per_shower"))
    if generator is None:
        rate = _positive(performance.get("showers_per_second"))
        generator = None if rate is None else 1000 / rate
    if generator is None and "geant4_cpu_seconds" in generated.extra:
        generator = _positive(1000 * float(generated.extra["geant4_cpu_seconds"].mean()))
    speed_up = None if geant4 is None or generator is None else geant4 / generator
    return Timing(
        geant4_ms=geant4,
        geant4_ms_per_gev=per_gev,
        generator_ms=generator,
        speed_up=speed_up,
        mean_energy_mev=mean,
        performance=performance,
    )


def geant4_ms_per_gev(reference: Showers) -> float | None:
    """CPU time of Geant4 per GeV of incident energy, ms; None where the reference does not tell."""
    total_gev = float(reference.conditions.energy.sum()) / 1000
    if "geant4_cpu_seconds" in reference.extra:
        return _positive(1000 * float(reference.extra["geant4_cpu_seconds"].sum()) / total_gev)
    if reference.provenance.get("action") == "simulate":
        per_shower = _positive(_performance(reference).get("ms_per_shower"))
        return None if per_shower is None else per_shower * len(reference) / total_gev
    return None


def _performance(showers: Showers) -> Mapping[str, Any]:
    performance = showers.provenance.get("performance")
    return performance if isinstance(performance, Mapping) else {}


def _positive(value: Any) -> float | None:
    is_time = isinstance(value, int | float) and np.isfinite(value) and value > 0
    return float(value) if is_time else None
