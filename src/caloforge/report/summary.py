"""What an evaluation says, in plain sentences and a few rows: all of it computed from its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from caloforge.evaluation import ClassifierResult, Evaluation, Histogram

__all__ = [
    "Verdict",
    "excess",
    "group_titles",
    "number",
    "summary_rows",
    "timing_table",
    "verdict",
    "worst_features",
]

_TITLES = {
    "e_ratio": "Total energy over incident energy",
    "e_ratio_at_energy": "Response at each incident energy",
    "cell_energy": "Cell energies",
    "e_layer": "Energy in each layer",
    "sparsity": "Sparsity",
}
_KINDS = {"ec": "Centre of energy", "width": "Width"}
_AXES = {"eta": "η", "phi": "φ", "x": "x", "y": "y", "r": "r"}

_SPEEDS = ("ms_per_shower", "showers_per_second")

CHANCE_SIGMA = 3.0


@dataclass(frozen=True)
class Verdict:
    """``level`` 0 (not told apart) to 3 (easily told apart), a headline and one or two sentences."""

    level: int
    headline: str
    sentences: str


def group_titles(groups: Sequence[str]) -> dict[str, str]:
    """Readable titles of the groups of histograms; a group unknown here keeps its name."""
    titles = {}
    for group in groups:
        kind, _, axis = group.partition("_")
        if group in _TITLES:
            titles[group] = _TITLES[group]
        elif kind in _KINDS and axis in _AXES:
            titles[group] = f"{_KINDS[kind]} in {_AXES[axis]}"
        else:
            titles[group] = group.replace("_", " ").capitalize()
    return titles


def excess(histogram: Histogram) -> float:
    """Separation power above what chance gives."""
    return histogram.separation.value - histogram.separation.floor


def beyond_chance(histogram: Histogram) -> bool:
    """True where the separation power is more than three standard deviations above its floor."""
    return excess(histogram) > CHANCE_SIGMA * histogram.separation.floor_std


def worst_features(evaluation: Evaluation, n: int = 5) -> list[Histogram]:
    """The ``n`` features whose separation power lies farthest above chance, worst first."""
    return sorted(evaluation.histograms, key=excess, reverse=True)[:n]


def number(value: float | None, digits: int = 3) -> str:
    """A number for people: no exponent between 0.001 and a million, thin spaces between thousands."""
    if value is None or not math.isfinite(value):
        return "not known"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e6:
        mantissa, power = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa}·10{_superscript(int(power))}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}".replace(",", "\u202f").replace("-", "−")


def _superscript(power: int) -> str:
    return str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def floor_of(result: ClassifierResult) -> tuple[float, float]:
    """AUC of samples that do not differ, and its standard deviation."""
    if result.auc_floor is None:
        return 0.5, result.auc_noise
    return result.auc_floor, max(result.auc_floor_std or 0.0, result.auc_noise)


def verdict(evaluation: Evaluation) -> Verdict:
    """The outcome in words. The hardest classifier decides the level; without one, the features do."""
    count = len(evaluation.histograms)
    differing = sum(beyond_chance(histogram) for histogram in evaluation.histograms)
    results = list(evaluation.classifiers.values())
    n = min(evaluation.counts["reference"], evaluation.counts["generated"])
    sentences = []
    if results:
        worst = max(results, key=lambda r: r.auc)
        floor, spread = floor_of(worst)
        if worst.auc < floor + CHANCE_SIGMA * max(spread, 1e-9):
            level, headline = 0, f"Not told apart from Geant4 with {number(n)} showers of each"
        elif worst.auc < 0.65:
            level, headline = 1, "Close to Geant4"
        elif worst.auc < 0.85:
            level, headline = 2, "Visibly different from Geant4"
        else:
            level, headline = 3, "Easily told apart from Geant4"
        aucs = " and ".join(f"{r.auc:.3f} ({_classifier_name(r)})" for r in results)
        sentences.append(
            f"Trained classifiers tell generated showers from Geant4's with an AUC of {aucs}; "
            f"{floor:.3f} ± {spread:.3f} would mean that they cannot."
        )
    else:
        share = differing / max(count, 1)
        level = 0 if differing <= 0.02 * count else 1 if share < 0.25 else 2 if share < 0.75 else 3
        headline = (
            "No feature differs by more than chance",
            "Most features agree with Geant4",
            "Many features differ from Geant4",
            "Most features differ from Geant4",
        )[level]
        if level == 0 and differing:
            headline = "Hardly any feature differs by more than chance"
    if count:
        ordered = worst_features(evaluation, count)
        sentences.append(
            f"Of {count} features {differing} differ by more than chance; the one furthest above it is the "
            f"{_feature_text(ordered[0])}."
        )
    return Verdict(level, headline + ".", " ".join(sentences))


def _classifier_name(result: ClassifierResult) -> str:
    names = {"low": "cells", "low-normed": "cells, normed by layer", "high": "high-level features"}
    return names.get(result.name, result.name)


def _feature_text(histogram: Histogram) -> str:
    label = histogram.label.partition(" [")[0]
    separation = histogram.separation
    return f"{label} (separation power {number(separation.value)}, by chance {number(separation.floor)})"


def summary_rows(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """(quantity, generated, Geant4 or what a perfect generator would give) of the summary table."""
    counts = evaluation.counts
    rows = [
        ("Showers", number(counts["generated"]), number(counts["reference"])),
        ("Incident energies", _span(evaluation, "generated"), _span(evaluation, "reference")),
    ]
    for result in evaluation.classifiers.values():
        floor, noise = floor_of(result)
        spread = f" ± {result.auc_std:.3f}" if len(result.aucs) > 1 else ""
        rows.append(
            (
                f"Classifier AUC, {_classifier_name(result)}",
                f"{result.auc:.3f}{spread}",
                f"{floor:.3f} ± {noise:.3f}",
            )
        )
        jsd = f" ± {result.jsd_std:.3f}" if len(result.jsds) > 1 else ""
        rows.append(
            (f"Jensen–Shannon divergence, {_classifier_name(result)}", f"{result.jsd:.3f}{jsd} bits", "0")
        )
    if evaluation.histograms:
        n = len(evaluation.histograms)
        mean = sum(h.separation.value for h in evaluation.histograms) / n
        floor = sum(h.separation.floor for h in evaluation.histograms) / n
        rows.append((f"Separation power, mean of {n} features", number(mean), number(floor)))
    ratio = evaluation.features.get("e_ratio")
    if ratio is not None:
        rows.append(
            (
                "Mean ΣE / E_inc",
                number(ratio.generated_mean, 4),
                number(ratio.reference_mean, 4),
            )
        )
        if ratio.reference_mean > 0:
            quotient = number(ratio.generated_mean / ratio.reference_mean, 4)
            rows.append(("Mean energy, generated / Geant4", quotient, "1"))
    if evaluation.timing.speed_up is not None:
        rows.append(("Speed-up over Geant4", f"{number(evaluation.timing.speed_up)}×", ""))
    return rows


def _span(evaluation: Evaluation, sample: str) -> str:
    ranges = evaluation.conditions.get(sample) or {}
    energy = ranges.get("energy")
    if not energy:
        return ""
    low, high = (number(e / 1000) for e in energy)
    particles = ", ".join(p for p in ranges.get("particle", ()) if p != "unknown")
    text = f"{low} GeV" if low == high else f"{low} to {high} GeV"
    return f"{text} {particles}" if particles else text


def timing_table(evaluation: Evaluation) -> tuple[list[tuple[str, str, str]], list[tuple[str, str]]]:
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
    return text[:1].upper() + text[1:]


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
