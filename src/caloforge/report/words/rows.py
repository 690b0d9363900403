"""The numbers of an evaluation as rows for people: value, what chance gives, significance and meaning."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from caloforge.evaluation.differences import classifier_auc, classifier_floor, response_shift
from caloforge.evaluation.results import ClassifierResult, Estimate, Evaluation, Histogram
from caloforge.evaluation.significance import beyond_chance
from caloforge.report.words.text import (
    classifier_title,
    number,
    percent,
    raised,
    scatter,
    scatter_percent,
    with_error,
)

__all__ = [
    "DISTANCES",
    "THOUSANDTHS",
    "Row",
    "classifier_sigmas",
    "display_scale",
    "distance_row",
    "estimate_row",
    "is_shape",
    "key_rows",
    "number_rows",
    "timing_rows",
]

DISTANCES = {
    "fpd": (
        "Fréchet distance, FPD × 10³",
        "Of Gaussians with the features’ means and covariances, at infinitely many showers.",
    ),
    "kpd": (
        "Kernel distance, KPD × 10³",
        "Maximum mean discrepancy, polynomial kernel; scatters around 0 for equal samples.",
    ),
    "fpd_trimmed": ("Fréchet distance of the central 99 %, × 10³", "FPD without the outermost hundredth."),
    "sliced_wasserstein": ("Sliced Wasserstein distance", "Mean over random projections."),
    "sliced_ks": ("Sliced Kolmogorov–Smirnov distance", "Mean over random projections."),
    "precision": ("Precision", "Generated showers among Geant4’s."),
    "recall": ("Recall", "Geant4 showers among the generated."),
    "density": ("Density", "Geant4 showers around a generated one; 1 is good."),
    "coverage": ("Coverage", "Geant4 showers with a generated one near."),
}
"""Title and one line of meaning of the distances; FPD and KPD are shown in thousandths."""
THOUSANDTHS = ("fpd", "kpd", "fpd_trimmed")
_SPEEDS = ("ms_per_shower", "showers_per_second")


@dataclass(frozen=True)
class Row:
    """A number, its floor (or ideal, or Geant4's), both as text, and the standard deviations between them."""

    name: str
    meaning: str
    value: str
    floor: str
    sigmas: float = math.nan
    key: bool = False
    """Stands on the first screen."""


def key_rows(rows: Sequence[Row]) -> list[Row]:
    """Those of the first screen, with the one that lies farthest beyond chance: it says no less than all."""
    known = [row for row in rows if not math.isnan(row.sigmas)]
    worst = max(known, key=lambda row: row.sigmas, default=None)
    return [row for row in rows if row.key or row is worst]


def is_shape(histogram: Histogram) -> bool:
    """True for observables with one entry a shower other than its energy: start, length, asymmetry, …"""
    energies = ("e_ratio", "e_ratio_at_energy", "cell_energy")
    return histogram.layer is None and histogram.group not in energies


def estimate_row(name: str, meaning: str, estimate: Estimate, scale: float = 1.0) -> Row:
    """A row of an `Estimate`; the ideal stands in for a floor that was not measured."""
    known = math.isfinite(estimate.floor)
    floor = scatter(scale * estimate.floor, scale * estimate.floor_error) if known else ""
    if not known:
        floor = f"ideal {number(estimate.ideal * scale)}"
    note = f" {estimate.note}" if estimate.note else ""
    value = with_error(scale * estimate.value, scale * estimate.error)
    return Row(name, meaning + note, value, floor, estimate.sigmas() if known else math.nan)


def distance_row(name: str, estimate: Estimate) -> Row:
    """A row of a distance, with its title and meaning."""
    title, meaning = DISTANCES.get(name, (name, ""))
    return estimate_row(title, meaning, estimate, display_scale(name))


def display_scale(name: str) -> float:
    """Factor by which a metric is multiplied where it is shown; FPD and KPD as the field quotes them."""
    return 1e3 if name in THOUSANDTHS else 1.0


def classifier_sigmas(result: ClassifierResult) -> float:
    """How far the AUC lies above its floor, in standard deviations."""
    return classifier_auc(result).sigmas()


def number_rows(evaluation: Evaluation) -> list[Row]:
    """The numbers that matter, in the order of the page."""
    parts = (_samples, _classifiers, _distances, _features, _physics, _speed)
    return [row for part in parts for row in part(evaluation)]


def _samples(evaluation: Evaluation) -> Iterator[Row]:
    counts = evaluation.counts
    yield Row("Showers", "", number(counts["generated"]), f"Geant4 {number(counts['reference'])}")
    made, true = (_span(evaluation, sample) for sample in ("generated", "reference"))
    yield Row("Incident energies", "", made, f"Geant4 {true}")


def _classifiers(evaluation: Evaluation) -> Iterator[Row]:
    strongest = max(evaluation.classifiers.values(), key=classifier_sigmas, default=None)
    for result in evaluation.classifiers.values():
        floor, noise = classifier_floor(result)
        several = len(result.aucs) > 1
        yield Row(
            f"Classifier AUC, {classifier_title(result.name)}",
            "0.5: cannot tell, 1: always can.",
            f"{result.auc:.3f} ± {result.auc_std:.3f}" if several else f"{result.auc:.3f}",
            f"{floor:.3f} ± {noise:.3f}",
            classifier_sigmas(result),
            key=result is strongest,
        )
        if result.curve is not None:
            expected = result.curve.expected
            yield Row(
                f"The same with {number(result.curve.at)} showers, extrapolated",
                "Not measured.",
                f"{expected.value:.3f} ± {expected.error:.3f}",
                "0.500",
            )


def _distances(evaluation: Evaluation) -> Iterator[Row]:
    for name, estimate in evaluation.distances.items():
        yield replace(distance_row(name, estimate), meaning="", key=name == "fpd")  # see the section on them


def _features(evaluation: Evaluation) -> Iterator[Row]:
    n = len(evaluation.histograms)
    if not n:
        return
    value = sum(h.separation.value for h in evaluation.histograms) / n
    floor = sum(h.separation.floor for h in evaluation.histograms) / n
    yield Row(
        f"Separation power, mean of {n} features",
        "0: same shape, 1: no overlap.",
        number(value),
        number(floor),
    )
    named = int(beyond_chance(evaluation.histograms).sum())
    yield Row(
        "Features that differ by more than chance",
        "At most 1 % false alarms.",
        f"{named} of {n}",
        "0",
        key=True,
    )


def _physics(evaluation: Evaluation) -> Iterator[Row]:
    shifts = response_shift(evaluation)
    if shifts is not None:
        texts = (
            ("Mean response, generated / Geant4 − 1", "Of ΣE/E_inc."),
            ("Spread of the response, generated / Geant4 − 1", "Relative to the mean."),
        )
        for (name, meaning), shift in zip(texts, shifts, strict=True):
            if math.isfinite(shift.value):
                sigmas = abs(shift.value) / shift.error if shift.error > 0 else math.nan
                yield Row(name, meaning, percent(shift.value, shift.error), "0 %", sigmas, key=True)
    for curve in evaluation.responses:
        yield _share(
            f"Largest change of the response with {curve.condition}",
            "|generated / Geant4 − 1| in any bin.",
            curve.linearity,
        )
    for correlation in evaluation.correlations.values():
        name = f"Correlations between {correlation.name}, rms difference"
        meaning = ""
        yield estimate_row(name, meaning, correlation.distance)
    kept = evaluation.conservation
    if kept is not None:
        sigmas = (kept.generated_above - kept.reference_above) / max(kept.expected_error, 1e-12)
        yield Row(
            f"Showers with ΣE/E_inc above {number(kept.limit)}",
            "More than Geant4 ever shows.",
            percent(kept.generated_above, signed=False),
            scatter_percent(kept.reference_above, kept.expected_error),
            sigmas,
        )
    if evaluation.memorisation is not None:
        yield _share(
            "Nearer to a training than to a held-out shower",
            "50 %: independent.",
            evaluation.memorisation.nearer,
        )


def _share(name: str, meaning: str, estimate: Estimate) -> Row:
    row = estimate_row(name, meaning, estimate)
    known = math.isfinite(estimate.floor)
    floor = scatter_percent(estimate.floor, estimate.floor_error) if known else row.floor
    return Row(name, row.meaning, percent(estimate.value, estimate.error, signed=False), floor, row.sigmas)


def _speed(evaluation: Evaluation) -> Iterator[Row]:
    if evaluation.timing.speed_up is not None:
        meaning = "At the same energies."
        yield Row("Speed-up over Geant4", meaning, f"{number(evaluation.timing.speed_up)}×", "", key=True)


def _span(evaluation: Evaluation, sample: str) -> str:
    ranges = evaluation.conditions.get(sample) or {}
    energy = ranges.get("energy")
    if not energy:
        return ""
    low, high = (number(e / 1000) for e in energy)
    particles = ", ".join(p for p in ranges.get("particle", ()) if p != "unknown")
    text = f"{low} GeV" if low == high else f"{low} to {high} GeV"
    return f"{text} {particles}" if particles else text


def timing_rows(evaluation: Evaluation) -> tuple[list[tuple[str, str, str]], list[tuple[str, str]]]:
    """Rows (quantity, Geant4, generator) and rows (condition, value) that say how it was measured."""
    timing = evaluation.timing
    rows = [("Time per shower", _ms(timing.geant4_ms), _ms(timing.generator_ms))]
    rows.append(("Showers per second", _rate(timing.geant4_ms), _rate(timing.generator_ms)))
    if timing.geant4_ms_per_gev is not None:
        rows.append(("Time per GeV", f"{number(timing.geant4_ms_per_gev)} ms", "—"))
    if timing.speed_up is not None:
        rows.append(("Speed-up", "1", f"{number(timing.speed_up)}×"))
    performance = {key: value for key, value in timing.performance.items() if value is not None}
    for key in [key for key in performance if key.startswith("peak_memory")]:
        name, _, unit = _words(key).partition(" (")
        rows.append((name, "—", f"{_plain(performance.pop(key))} {unit.rstrip(')')}".strip()))
    how = [("Mean incident energy", f"{number(timing.mean_energy_mev / 1000)} GeV")]
    how += [(_words(key), _plain(value)) for key, value in performance.items() if key not in _SPEEDS]
    machine = (evaluation.provenance.get("generated") or {}).get("machine")
    if machine:
        how.append(("Machine of the generator", str(machine)))
    return rows, how


def _ms(value: float | None) -> str:
    return "not known" if value is None else f"{number(value)} ms"


def _rate(value: float | None) -> str:
    return "not known" if not value else number(1000 / value)


_UNITS = {"bytes": "bytes", "mb": "MB", "mib": "MiB", "gb": "GB", "gib": "GiB", "ms": "ms", "s": "s"}


def _words(key: str) -> str:
    """``peak_memory_mib`` as "Peak memory (MiB)"."""
    known = {"n_showers": "Showers made", "seconds": "Time for all (s)"}
    if key in known:
        return known[key]
    head, _, tail = key.rpartition("_")
    text = f"{head} ({_UNITS[tail]})" if head and tail in _UNITS else key
    text = text.replace("_", " ")
    return raised(text)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return number(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    return str(value)
