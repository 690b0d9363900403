"""What the numbers of an evaluation say one by one: sentences on what differs, or how well it agrees."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from caloforge.evaluation.results import (
    ClassifierResult,
    Comparison,
    Estimate,
    Evaluation,
    Histogram,
    Separation,
    Slice,
)
from caloforge.evaluation.significance import (
    SIGMAS,
    beyond_chance,
    chance_sigmas,
    detectable_auc,
    equivalent_auc,
)
from caloforge.evaluation.words import classifier_title, feature_words, group_title, lowered, number, percent

__all__ = ["Finding", "classifier_floor", "find_all", "how_it_differs", "response_shift", "uneven_slices"]

MOST_GROUPS = 4
"""Groups of features of which a verdict speaks one by one."""
_DISTANCES = {
    "fpd": ("Fréchet distance (FPD × 10³)", 1e3),
    "kpd": ("kernel distance (KPD × 10³)", 1e3),
}


@dataclass(frozen=True)
class Finding:
    """One sentence; ``auc``: with what AUC the difference alone tells a shower's origin, where that is known.

    ``repeats`` marks generated showers that are no new showers, which no classifier can see.
    """

    text: str
    differs: bool
    auc: float = 0.5
    repeats: bool = False


def find_all(evaluation: Evaluation) -> list[Finding]:
    """All findings, most important kinds first."""
    parts = (_classifiers, _features, _response, _distances, _correlations, _slices, _conservation, _repeats)
    return [finding for part in parts for finding in part(evaluation)]


def classifier_floor(result: ClassifierResult) -> tuple[float, float]:
    """AUC of samples that do not differ, and the standard deviation of the difference to it."""
    if result.auc_floor is None:
        return 0.5, result.auc_noise
    return result.auc_floor, max(result.auc_floor_std or 0.0, result.auc_noise)


def _classifiers(evaluation: Evaluation) -> Iterator[Finding]:
    for result in sorted(evaluation.classifiers.values(), key=lambda r: -r.auc):
        floor, spread = classifier_floor(result)
        name = classifier_title(result.name)
        chance = f"{floor:.3f} ± {spread:.3f} by chance"
        if result.auc - floor > SIGMAS * max(spread, 1e-9):
            text = f"A classifier of {name} tells them apart with an AUC of {result.auc:.3f} ({chance})."
            yield Finding(text, True, result.auc)
        elif floor - result.auc > SIGMAS * max(spread, 1e-9):
            text = (
                f"The AUC of the classifier of {name} lies below chance, {result.auc:.3f} ({chance}): are "
                "some showers in both samples?"
            )
            yield Finding(text, True, repeats=True)
        else:
            text = (
                f"A classifier of {name} cannot tell them apart: AUC {result.auc:.3f} ({chance}; from "
                f"{floor + SIGMAS * spread:.3f} it would be noticed)."
            )
            yield Finding(text, False)


def _features(evaluation: Evaluation) -> Iterator[Finding]:
    named = beyond_chance(evaluation.histograms)
    groups: dict[str, list[tuple[Histogram, bool]]] = {}
    for histogram, beyond in zip(evaluation.histograms, named, strict=True):
        groups.setdefault(histogram.group, []).append((histogram, bool(beyond)))
    worst = {
        group: max((h for h, beyond in part if beyond), key=_sure_excess)
        for group, part in groups.items()
        if any(beyond for _, beyond in part)
    }
    ordered = sorted(worst, key=lambda group: -_sure_excess(worst[group]))
    for group in ordered[:MOST_GROUPS]:
        histogram, part = worst[group], groups[group]
        if len(part) > 1:
            where = f" in {sum(beyond for _, beyond in part)} of {len(part)} histograms, most the"
            where += f" {feature_words(histogram.name, [histogram])}"
        else:
            where = ""
        auc = equivalent_auc(histogram.separation.value - histogram.separation.floor)
        text = f"{group_title(group)} differs{where}: {_separation(evaluation, histogram)}."
        yield Finding(text, True, auc)
    if len(ordered) > MOST_GROUPS:
        rest = ", ".join(lowered(group_title(group)) for group in ordered[MOST_GROUPS:])
        yield Finding(f"Less, but more than chance: {rest}.", True)
    same = [lowered(group_title(group)) for group in groups if group not in worst]
    if same:
        seen = detectable_auc(evaluation.histograms)
        text = f"No more than chance in {_count(same, 'kind')} of features: {', '.join(same)}"
        if math.isfinite(seen):
            text += f" (a shift of {_shift_of(seen)} standard deviations in one of them would be noticed)"
        yield Finding(f"{text}.", False)


def _separation(evaluation: Evaluation, histogram: Histogram) -> str:
    """``its mean lies 0.40 standard deviations too high; separation power 0.210, by chance …``."""
    compared = evaluation.features.get(histogram.name)
    how = how_it_differs(compared) if compared is not None else ""
    separation = histogram.separation
    text = f"separation power {number(separation.value)}, by chance {number(separation.floor)}"
    return f"{how}; {text}" if how else text


def how_it_differs(compared: Comparison, least: float = 0.1) -> str:
    """Which way a feature is wrong, in words; empty where neither mean nor spread is off by a tenth."""
    if not compared.reference_std > 0:
        return ""
    shift = (compared.generated_mean - compared.reference_mean) / compared.reference_std
    spread = compared.generated_std / compared.reference_std - 1
    if abs(shift) >= max(least, abs(spread) / 2):
        size = f"{abs(shift):.2f}" if abs(shift) < 5 else "more than 5"
        return f"its mean lies {size} standard deviations too {'high' if shift > 0 else 'low'}"
    if abs(spread) >= least:
        return f"its spread is {100 * abs(spread):.0f} % too {'wide' if spread > 0 else 'narrow'}"
    return ""


def _sure_excess(histogram: Histogram) -> float:
    """Separation power above chance, less one standard deviation."""
    separation = histogram.separation
    return separation.value - separation.floor - max(separation.error, separation.floor_std)


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
    mean = Estimate(compared.generated_mean / compared.reference_mean - 1, mean_error)
    if relative[0] <= 0:
        return mean, Estimate(math.nan)
    spread_error = math.sqrt(sum(1 / (2 * n) for n in counts))
    return mean, Estimate(relative[1] / relative[0] - 1, spread_error)


def _response(evaluation: Evaluation) -> Iterator[Finding]:
    shifts = response_shift(evaluation)
    if shifts is not None:
        compared = evaluation.features["e_ratio"]
        for name, wrong, shift in zip(
            ("mean energy response ⟨ΣE/E_inc⟩", "spread of ΣE/E_inc"),
            (("high", "low"), ("wide", "narrow")),
            shifts,
            strict=True,
        ):
            if not math.isfinite(shift.value) or not shift.error > 0:
                continue
            size = percent(shift.value, shift.error)
            if abs(shift.value) > SIGMAS * shift.error:
                way = wrong[0] if shift.value > 0 else wrong[1]
                auc = 0.5
                if wrong[0] == "high" and compared.reference_std > 0:
                    d = abs(compared.generated_mean - compared.reference_mean) / compared.reference_std
                    auc = equivalent_auc(d**2 / 4)
                yield Finding(f"The {name} is too {way}: {size}.", True, auc)
            else:
                yield Finding(f"The {name} agrees within its error: {size}.", False)
    for curve in evaluation.responses:
        estimate = curve.linearity
        sigmas = estimate.sigmas()
        if not math.isfinite(sigmas) or math.isnan(estimate.floor):
            continue
        floor = percent(estimate.floor, estimate.floor_error, signed=False)
        text = f"by up to {percent(estimate.value, signed=False)} in a bin of {_condition(curve.condition)}"
        if sigmas > SIGMAS:
            yield Finding(f"The response is off {text} (by chance {floor}).", True)
        else:
            yield Finding(f"The response differs {text}, which chance gives as well ({floor}).", False)


def _condition(name: str) -> str:
    return {"energy": "incident energy", "theta": "θ", "phi": "φ"}.get(name, name)


def _distances(evaluation: Evaluation) -> Iterator[Finding]:
    same = []
    for name, estimate in evaluation.distances.items():
        sigmas = estimate.sigmas()
        if math.isnan(estimate.floor) or not math.isfinite(sigmas):
            continue  # without a floor nothing can be said; the number stands in the tables
        title, scale = _DISTANCES.get(name, (name, 1.0))
        value, floor = number(scale * estimate.value), number(scale * estimate.floor)
        if sigmas > SIGMAS:
            text = f"The {title} is {value}, {sigmas:.1f} standard deviations above chance ({floor})."
            if estimate.higher_is_better:
                text = text.replace("above", "below")
            yield Finding(text, True)
        else:
            same.append(f"{title} {value} ({floor} by chance)")
    if same:
        yield Finding(f"As good as a second Geant4 sample: {', '.join(same)}.", False)


def _correlations(evaluation: Evaluation) -> Iterator[Finding]:
    for correlation in evaluation.correlations.values():
        distance = correlation.distance
        sigmas = distance.sigmas()
        if math.isnan(distance.floor) or not math.isfinite(sigmas):
            continue
        what = f"correlations between {correlation.name}"
        size = f"{number(distance.value, 2)} root mean square, by chance {number(distance.floor, 2)}"
        if sigmas > SIGMAS:
            yield Finding(f"The {what} differ: {size}.", True)
        else:
            yield Finding(f"The {what} agree within chance: {size}.", False)


def _slices(evaluation: Evaluation) -> Iterator[Finding]:
    conditions = dict.fromkeys(part.condition for part in evaluation.slices)
    for condition in conditions:
        parts = [s for s in evaluation.slices if s.condition == condition and s.separation and not s.note]
        if len(parts) < 2:
            continue
        uneven = uneven_slices(parts)
        if uneven is None:
            text = f"No range of {_condition(condition)} is significantly worse than the others."
            yield Finding(text, False)
        else:
            worst, excess, others = uneven
            text = (
                f"Quality depends on {_condition(condition)}: the separation power above chance, mean of the "
                f"features, is {number(excess, 2)} at {worst.label} and {number(others, 2)} elsewhere."
            )
            yield Finding(text, True)


def uneven_slices(parts: Sequence[Slice]) -> tuple[Slice, float, float] | None:
    """The slice that is worse than the mean of the others by more than chance, its excess and theirs.

    None where no slice is.
    Compared are separation powers above their floors, mean over the groups of features. Groups may be fully
    correlated, so the error of that mean is the mean of their errors; the limit is raised for the number of
    slices.
    """
    excess = np.array([np.mean([s.value - s.floor for s in part.separation.values()]) for part in parts])
    error = np.array([np.mean([_error(s) for s in part.separation.values()]) for part in parts])
    k = int(np.argmax(excess))
    others, n = np.delete(excess, k), len(parts) - 1
    spread = math.hypot(error[k], float(np.sqrt((np.delete(error, k) ** 2).sum())) / n)
    limit = SIGMAS + 0.5 * math.log(len(parts))  # about three standard deviations for the largest of them
    mean = float(others.mean())
    if excess[k] - mean <= limit * spread or excess[k] < 1.5 * max(mean, 0.0):
        return None
    return parts[k], float(excess[k]), mean


def _error(separation: Separation) -> float:
    return math.hypot(separation.error, separation.floor_std)


def _conservation(evaluation: Evaluation) -> Iterator[Finding]:
    kept = evaluation.conservation
    if kept is None:
        return
    above = kept.generated_above - kept.reference_above
    size = (
        f"{percent(kept.generated_above, signed=False)} of the generated showers have ΣE/E_inc above "
        f"{number(kept.limit)}, {percent(kept.reference_above, signed=False)} of Geant4’s"
    )
    if above > SIGMAS * max(kept.expected_error, 1e-12):
        yield Finding(f"Too much energy: {size}; the largest is {number(kept.largest)}.", True)
    else:
        yield Finding(f"Energies stay where Geant4’s are: {size}.", False)
    if kept.negative_or_empty:
        n, total = kept.negative_or_empty, evaluation.counts["generated"]
        missing = evaluation.counts.get("reference_empty", 0)
        if n / total > 2 * missing / evaluation.counts["reference"]:
            yield Finding(f"{number(n)} of {number(total)} generated showers have no energy at all.", True)


def _repeats(evaluation: Evaluation) -> Iterator[Finding]:
    known = evaluation.memorisation
    if known is not None:
        sigmas = known.nearer.sigmas()
        many = known.copies - known.copies_expected > SIGMAS * math.sqrt(max(known.copies_expected, 1.0))
        near = math.isfinite(sigmas) and sigmas > SIGMAS
        text = (
            f"{percent(known.nearer.value, known.nearer.error, signed=False)} of the generated showers are "
            "nearer to a training shower than to a held-out one (50 % by chance), "
            f"{number(known.copies)} are as near as copies ({number(known.copies_expected, 2)} by chance)"
        )
        if many or near:
            yield Finding(f"The generator repeats training showers: {text}.", True, repeats=True)
        else:
            yield Finding(f"Training showers are not repeated: {text}.", False)
    if _too_alike(evaluation.histograms):
        text = (
            "The histograms agree better than those of independent samples could: the generated showers "
            "seem to be the reference showers."
        )
        yield Finding(text, True, repeats=True)


def _too_alike(histograms: Sequence[Histogram]) -> bool:
    sigmas = [chance_sigmas(h.separation) for h in histograms if h.separation.floor_std > 0]
    return len(sigmas) >= 3 and float(np.median(sigmas)) < -SIGMAS


def _count(items: Sequence[str], noun: str) -> str:
    return f"{len(items)} {noun}{'s' if len(items) != 1 else ''}"


def _shift_of(auc: float) -> str:
    """The shift of a normal distribution, in standard deviations, that gives this AUC."""
    from statistics import NormalDist

    return f"{math.sqrt(2) * NormalDist().inv_cdf(auc):.2f}"
