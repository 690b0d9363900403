"""What stands around the metrics: were the conditions the same, what did it cost, what limits the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from caloforge.data import Conditions, Showers
from caloforge.errors import MissingDependencyError
from caloforge.evaluation.results import ClassifierResult, Histogram, Timing

__all__ = ["compare_conditions", "find_warnings", "geant4_ms_per_gev", "measure_times"]

FEW_SHOWERS = 1000
KS_LEVEL = 0.01
OUTSIDE_LEVEL = 0.01
_COLUMNS = ("energy", "theta", "phi")


def compare_conditions(reference: Conditions, generated: Conditions) -> dict[str, Any]:
    """Ranges of both samples and, for energy, θ and φ where they vary, a Kolmogorov-Smirnov test."""
    try:
        from scipy.stats import ks_2samp
    except ImportError as error:
        raise MissingDependencyError("scipy", "evaluate") from error
    result: dict[str, Any] = {"reference": reference.ranges(), "generated": generated.ranges()}
    for name in _COLUMNS:
        first, second = getattr(reference, name), getattr(generated, name)
        if min(first.min(), second.min()) == max(first.max(), second.max()):
            continue
        test = ks_2samp(first, second, method="asymp")
        result[f"{name}_ks"] = {"statistic": float(test.statistic), "p_value": float(test.pvalue)}
    return result


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
    return Timing(geant4, per_gev, generator, speed_up, mean, performance)


def geant4_ms_per_gev(reference: Showers) -> float | None:
    """CPU time of Geant4 per GeV of incident energy, ms; None where the reference does not tell."""
    total_gev = float(reference.conditions.energy.sum()) / 1000
    if "geant4_cpu_seconds" in reference.extra:
        return _positive(1000 * float(reference.extra["geant4_cpu_seconds"].sum()) / total_gev)
    if reference.provenance.get("action") == "simulate":
        per_shower = _positive(_performance(reference).get("ms_per_shower"))
        return None if per_shower is None else per_shower * len(reference) / total_gev
    return None


def find_warnings(
    counts: Mapping[str, int],
    conditions: Mapping[str, Any],
    histograms: Sequence[Histogram],
    classifiers: Mapping[str, ClassifierResult],
) -> list[str]:
    """Plain sentences on what limits or spoils the numbers."""
    found = []
    fewest = min(counts["reference"], counts["generated"])
    if fewest < FEW_SHOWERS:
        found.append(
            f"There are only {fewest} showers in the smaller sample; differences below the floors given "
            "beside the numbers cannot be seen."
        )
    for role in ("reference", "generated"):
        empty = counts[f"{role}_empty"]
        if empty:
            found.append(f"{empty} of {counts[role]} {role} showers have no energy at all.")
    for name in _COLUMNS:
        test = conditions.get(f"{name}_ks")
        if test is not None and test["p_value"] < KS_LEVEL:
            found.append(
                f"The incident {name} of the samples is distributed differently (Kolmogorov-Smirnov "
                f"p = {test['p_value']:.2g}), so the metrics also see that and not only the showers."
            )
    for name in ("particle", "detector"):
        first, second = (conditions[role][name] for role in ("reference", "generated"))
        if first != second and not {"", "unknown"} & {*first, *second}:
            found.append(f"The samples differ in {name}: {', '.join(first)} against {', '.join(second)}.")
    found += _outside_warnings(histograms, counts)
    for result in classifiers.values():
        if result.settings.get("preset") != "calochallenge":
            found.append(
                "The classifiers are smaller than the CaloChallenge's; do not hold their AUC against "
                "published numbers, use the preset calochallenge for that."
            )
            break
    return found


def _outside_warnings(histograms: Sequence[Histogram], counts: Mapping[str, int]) -> list[str]:
    """One sentence for each group in which generated values leave the range more often than the reference."""
    spread = 1 / counts["reference"] + 1 / counts["generated"]
    worst: dict[str, tuple[float, Histogram]] = {}
    for histogram in histograms:
        for first, second in zip(histogram.reference_outside, histogram.generated_outside, strict=True):
            share = (first + second) / 2
            noise = np.sqrt(share * (1 - share) * spread)
            excess = abs(second - first)
            if excess > max(OUTSIDE_LEVEL, 4 * noise) and excess > worst.get(histogram.group, (0.0,))[0]:
                worst[histogram.group] = (excess, histogram)
    return [
        f"Values of {h.name} outside the histogram's range, which the separation power does not see: "
        f"{sum(h.generated_outside):.1%} of the generated, {sum(h.reference_outside):.1%} of the reference."
        for _, h in worst.values()
    ]


def _performance(showers: Showers) -> Mapping[str, Any]:
    performance = showers.provenance.get("performance")
    return performance if isinstance(performance, Mapping) else {}


def _positive(value: Any) -> float | None:
    is_time = isinstance(value, int | float) and np.isfinite(value) and value > 0
    return float(value) if is_time else None
