"""Plain sentences on what limits or spoils the numbers of an evaluation.

A warning never changes a number; what makes numbers meaningless is an error where it is read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.evaluation.classifiers.scores import auc_noise
from caloforge.evaluation.distances.memorisation import LEAST_SHOWERS
from caloforge.evaluation.results import ClassifierResult, Histogram

__all__ = ["find_warnings"]

FEW_SHOWERS = 1000
LEVEL = 0.01
"""p-value below which incident conditions are said to differ."""
OUTSIDE_LEVEL = 0.01
LOW_CELLS_LEVEL = 0.001
SIGMAS = 3
JUDGED = 0.2
"""Share of the showers that a classifier's AUC is computed from."""
_UNITS = {"energy": "MeV", "theta": "rad", "phi": "rad"}


def find_warnings(
    counts: Mapping[str, int],
    conditions: Mapping[str, Any],
    histograms: Sequence[Histogram],
    classifiers: Mapping[str, ClassifierResult],
) -> list[str]:
    """All warnings, those that spoil every number first.

    Args:
        counts: showers, ``reference`` and ``generated``, and ``training`` where these were given; without
            energy, ``reference_empty`` and ``generated_empty``; and, where they were looked for, copies as
            `count_repeats` gives them.
        conditions: see `compare_conditions`.
        histograms: all of them.
        classifiers: those trained.
    """
    return [
        *_conditions(counts, conditions),
        *_repeats(counts),
        *_few_showers(counts, classifiers),
        *_empty(counts),
        *_low_cells(histograms),
        *_outside(histograms, counts),
        *_small_classifiers(classifiers),
        *_few_to_compare(counts),
    ]


def _conditions(counts: Mapping[str, int], conditions: Mapping[str, Any]) -> Iterator[str]:
    for name, unit in _UNITS.items():
        test, how = conditions.get(f"{name}_ks"), "Kolmogorov-Smirnov"
        if name == "energy" and "energy_chi2" in conditions:
            test, how = conditions["energy_chi2"], "χ² of the numbers of showers at each energy"
        if test is None or test["p_value"] >= LEVEL:
            continue
        spans = (f"{role} {_range(conditions[role][name], unit)}" for role in ("reference", "generated"))
        text = (
            f"The incident {name} is distributed differently: {', '.join(spans)} ({how}, "
            f"p = {test['p_value']:.2g}). Every number here sees that, too"
        )
        if name == "energy":
            text += ": generate at the reference’s energies (caloforge generate --like)"
        yield f"{text}."
    for role, other in (("generated", "reference"), ("reference", "generated")):
        share = conditions.get("energy_outside", {}).get(role, 0.0)
        if share > LEVEL and share * counts[role] >= 10:
            yield (
                f"{share:.1%} of the {role} showers have an incident energy that the {other} sample does not "
                "cover."
            )
    for name in ("particle", "detector"):
        first, second = (conditions[role][name] for role in ("reference", "generated"))
        if first != second and not {"", "unknown"} & {*first, *second}:
            yield f"The samples differ in {name}: {', '.join(first)} against {', '.join(second)}."


def _range(span: Sequence[float], unit: str) -> str:
    scale, unit = (1000, "GeV") if unit == "MeV" and span[1] >= 1000 else (1, unit)
    return f"{span[0] / scale:.3g} to {span[1] / scale:.3g} {unit}"


def _repeats(counts: Mapping[str, int]) -> Iterator[str]:
    total, copies = counts["generated"], counts.get("generated_in_reference", 0)
    if copies:
        what = "All" if copies == total else f"{copies} of {total}"
        yield (
            f"{what} generated showers are in the reference, cell by cell: agreement says nothing about a "
            "generator."
        )
    for role in ("generated", "reference"):
        repeated = counts.get(f"{role}_repeated", 0)
        if repeated:
            yield (
                f"{repeated} of {counts[role]} {role} showers equal another {role} shower, cell by cell"
                + (
                    ": has the generator collapsed, or was a seed used twice?"
                    if role == "generated"
                    else "; they count twice, so floors and errors are too small."
                )
            )


def _few_showers(counts: Mapping[str, int], classifiers: Mapping[str, ClassifierResult]) -> Iterator[str]:
    first, second = counts["reference"], counts["generated"]
    fewest = min(first, second)
    if fewest >= FEW_SHOWERS:
        return
    shift = SIGMAS * math.sqrt(1 / first + 1 / second)
    judged = min((r.showers[2] for r in classifiers.values()), default=max(1, int(JUDGED * fewest)))
    auc = min(1.0, 0.5 + SIGMAS * auc_noise(judged, judged))
    yield (
        f"The smaller sample has only {fewest} showers: seen are means about {shift:.2g} standard deviations "
        f"apart, and an AUC from {auc:.2f} on ({judged} showers of each judged)."
    )


def _empty(counts: Mapping[str, int]) -> Iterator[str]:
    for role in ("reference", "generated"):
        empty = counts[f"{role}_empty"]
        if empty:
            yield f"{empty} of {counts[role]} {role} showers have no energy at all."


def _low_cells(histograms: Sequence[Histogram]) -> Iterator[str]:
    for histogram in histograms:
        if histogram.group != "cell_energy":
            continue
        reference, generated = histogram.reference_outside[0], histogram.generated_outside[0]
        threshold = f"{histogram.edges[0]:.4g} MeV"
        if generated - reference > LOW_CELLS_LEVEL:
            yield (
                f"{generated:.2%} of the generated cells with energy lie below the threshold of {threshold} "
                f"({reference:.2%} of the reference's): was the threshold not applied? They count as hits."
            )
        elif reference > LOW_CELLS_LEVEL:
            yield (
                f"{reference:.2%} of the reference's cells with energy lie below the threshold of "
                f"{threshold} ({generated:.2%} of the generated); the histograms of energies leave them out."
            )


def _outside(histograms: Sequence[Histogram], counts: Mapping[str, int]) -> list[str]:
    """One sentence for each group in which generated values leave the range more often than the reference."""
    worst: dict[str, tuple[float, Histogram]] = {}
    for histogram in histograms:
        spread = 1 / _entries(histogram.reference, histogram.reference_outside, counts["reference"])
        spread += 1 / _entries(histogram.generated, histogram.generated_outside, counts["generated"])
        sides = list(zip(histogram.reference_outside, histogram.generated_outside, strict=True))
        for first, second in sides[1:] if histogram.group == "cell_energy" else sides:  # below: _low_cells
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


def _entries(inside: NDArray[np.float64], outside: tuple[float, float], showers: int) -> float:
    """Showers in a histogram, inside and outside: all, or those of one energy; cells count by showers."""
    share = 1 - sum(outside)
    return float(min(inside.sum() / share, showers)) if inside.any() else float(showers)


def _small_classifiers(classifiers: Mapping[str, ClassifierResult]) -> Iterator[str]:
    if any(result.settings.get("preset") != "calochallenge" for result in classifiers.values()):
        yield (
            "These classifiers are smaller than the CaloChallenge's: to compare with published AUCs, use the "
            "preset calochallenge."
        )


def _few_to_compare(counts: Mapping[str, int]) -> Iterator[str]:
    fewest = min(counts["generated"], counts["reference"], counts.get("training", LEAST_SHOWERS))
    if "training" in counts and fewest < LEAST_SHOWERS:
        yield (
            f"{fewest} showers of a sample are too few to tell whether training showers are repeated: "
            f"{LEAST_SHOWERS} of each are needed."
        )
