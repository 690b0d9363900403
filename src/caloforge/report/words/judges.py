"""What classifiers, features and distances say."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import NormalDist

from caloforge.evaluation.differences import classifier_auc, noticeable
from caloforge.evaluation.results import ClassifierResult, Comparison, Evaluation, Histogram
from caloforge.evaluation.significance import beyond_chance, detectable_auc, equivalent_auc, excess
from caloforge.report.words.finding import Finding
from caloforge.report.words.rows import display_scale
from caloforge.report.words.significance import sigma_text, significance
from caloforge.report.words.text import (
    classifier_title,
    feature_words,
    group_title,
    lowered,
    number,
    raised,
    with_error,
)

__all__ = ["classifier_findings", "distance_findings", "feature_findings", "how_it_differs"]

MOST_GROUPS = 4
"""Groups of features of which a verdict speaks one by one."""
_DISTANCES = {
    "fpd": "Fréchet distance (FPD × 10³)",
    "kpd": "kernel distance (KPD × 10³)",
    "fpd_trimmed": "Fréchet distance of the central 99 % (× 10³)",
    "sliced_wasserstein": "sliced Wasserstein distance",
    "sliced_ks": "sliced Kolmogorov-Smirnov distance",
}


def classifier_findings(evaluation: Evaluation) -> Iterator[Finding]:
    """One for each classifier, largest AUC first."""
    for result in sorted(evaluation.classifiers.values(), key=lambda r: -r.auc):
        auc, name = classifier_auc(result), classifier_title(result.name)
        found = significance(auc.sigmas())
        size = f"AUC {result.auc:.3f}, {sigma_text(found.sigmas)}"
        if found.says == "below chance":
            text = f"The classifier of {name} lies below chance, {size}: are some showers in both samples?"
            yield Finding(text, True, repeats=True)
            continue
        more = _with_more(result)
        seen = f"{noticeable(result):.3f} would be noticed"
        yield Finding.of(
            found,
            f"A classifier of {name} tells them apart: {size}{more}.",
            f"A classifier of {name} may tell them apart: {size}{more}.",
            f"A classifier of {name} cannot tell them apart: {size}; {seen}{more}.",
            auc=result.auc,
        )


def _with_more(result: ClassifierResult) -> str:
    """``; with 100,000 showers 0.97 ± 0.01 expected``, where there is a learning curve."""
    if result.curve is None:
        return ""
    expected = with_error(result.curve.expected.value, result.curve.expected.error)
    return f"; with {number(result.curve.at)} showers {expected} expected"


def feature_findings(evaluation: Evaluation) -> Iterator[Finding]:
    """The groups of features that differ, largest difference first, and those that do not."""
    named = beyond_chance(evaluation.histograms)
    groups: dict[str, list[tuple[Histogram, bool]]] = {}
    for histogram, beyond in zip(evaluation.histograms, named, strict=True):
        groups.setdefault(histogram.group, []).append((histogram, bool(beyond)))
    worst = {
        group: max((h for h, beyond in part if beyond), key=excess)
        for group, part in groups.items()
        if any(beyond for _, beyond in part)
    }
    ordered = sorted(worst, key=lambda group: -excess(worst[group]))
    for group in ordered[:MOST_GROUPS]:
        histogram, part = worst[group], groups[group]
        if len(part) > 1:
            where = f" in {sum(beyond for _, beyond in part)} of {len(part)} histograms, most the"
            where += f" {feature_words(histogram.name, [histogram])}"
        else:
            where = ""
        auc = equivalent_auc(excess(histogram))
        text = f"{group_title(group)} differs{where}: {_separation(evaluation, histogram)}."
        yield Finding(text, True, auc)
    if len(ordered) > MOST_GROUPS:
        rest = ", ".join(lowered(group_title(group)) for group in ordered[MOST_GROUPS:])
        yield Finding(f"Less, but more than chance: {rest}.", True)
    same = [lowered(group_title(group)) for group in groups if group not in worst]
    if same:
        seen = detectable_auc(evaluation.histograms)
        text = f"Not seen to differ: {', '.join(same)}"
        if math.isfinite(seen):
            text += f"; a shift of {_shift_of(seen)} standard deviations would be noticed"
        yield Finding(f"{text}.", False)


def _separation(evaluation: Evaluation, histogram: Histogram) -> str:
    """``mean 0.40 standard deviations too high, separation power 0.210 (chance …)``."""
    compared = evaluation.features.get(histogram.name)
    how = how_it_differs(compared) if compared is not None else ""
    separation = histogram.separation
    text = f"separation power {number(separation.value)} (chance {number(separation.floor)})"
    return f"{how}, {text}" if how else text


def how_it_differs(compared: Comparison, least: float = 0.1) -> str:
    """Which way a feature is wrong, in words; empty where neither mean nor spread is off by a tenth."""
    if not compared.reference_std > 0:
        return ""
    shift = (compared.generated_mean - compared.reference_mean) / compared.reference_std
    spread = compared.generated_std / compared.reference_std - 1
    if abs(shift) >= max(least, abs(spread) / 2):
        size = f"{abs(shift):.2f}" if abs(shift) < 5 else "over 5"
        return f"mean {size} standard deviations too {'high' if shift > 0 else 'low'}"
    if abs(spread) >= least:
        return f"spread {100 * abs(spread):.0f} % too {'wide' if spread > 0 else 'narrow'}"
    return ""


def distance_findings(evaluation: Evaluation) -> Iterator[Finding]:
    """FPD, KPD and the like; those without a floor are no evidence."""
    same = []
    for name, estimate in evaluation.distances.items():
        sigmas = estimate.sigmas()
        if math.isnan(estimate.floor) or not math.isfinite(sigmas):
            continue  # without a floor nothing can be said; the number stands in the tables
        title, scale = _DISTANCES.get(name, name), display_scale(name)
        value = with_error(scale * estimate.value, scale * estimate.error)
        way, found = "below" if estimate.higher_is_better else "above", significance(sigmas)
        if found.says in ("told apart", "hint"):
            text = f"{raised(title)} {value}, {sigma_text(sigmas)} {way} chance."
            yield Finding.of(found, text, text, "")
        else:
            same.append(f"{title} {value} ({sigma_text(sigmas)})")
    if same:
        yield Finding(f"Distances within chance: {', '.join(same)}.", False)


def _shift_of(auc: float) -> str:
    """The shift of a normal distribution, in standard deviations, that gives this AUC."""
    return f"{math.sqrt(2) * NormalDist().inv_cdf(auc):.2f}"
