"""Showers that are no new showers: of the training set, of the reference, or of the same sample."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from caloforge.evaluation.results import Evaluation, Histogram
from caloforge.evaluation.significance import SIGMAS, chance_sigmas
from caloforge.report.words.finding import Finding
from caloforge.report.words.significance import sigma_text, significance
from caloforge.report.words.text import number, percent

__all__ = ["repeat_findings"]


def repeat_findings(evaluation: Evaluation) -> Iterator[Finding]:
    """Memorised training showers, and copies."""
    known = evaluation.memorisation
    if known is not None:
        found = significance(known.nearer.sigmas())
        chance = known.nearer.floor if math.isfinite(known.nearer.floor) else known.nearer.ideal
        text = (
            f"{percent(known.nearer.value, known.nearer.error, signed=False)} nearer to a training than to a "
            f"held-out shower (chance {percent(chance, signed=False)}), {number(known.copies)} as near as "
            f"copies (chance {number(known.copies_expected, 2)})"
        )
        told = f"The generator repeats training showers: {text}."
        if known.significant:
            yield Finding(told, True, repeats=True)
        else:
            hint = f"The generator may repeat training showers: {text}, {sigma_text(found.sigmas)}."
            yield Finding.of(found, told, hint, f"Training showers are not repeated: {text}.", repeats=True)
    counts = evaluation.counts
    shared = counts.get("generated_in_reference", 0)
    if shared:
        n = number(counts["generated"])
        yield Finding(f"{number(shared)} of {n} generated showers are reference showers.", True, repeats=True)
    again = counts.get("generated_repeated", 0)
    if again / counts["generated"] > 2 * counts.get("reference_repeated", 0) / counts["reference"]:
        n = number(counts["generated"])
        text = f"{number(again)} of {n} generated showers repeat another generated one."
        yield Finding(text, True, repeats=True)
    same_rows = evaluation.localisation.shared_showers if evaluation.localisation is not None else 0.0
    if same_rows > 0 and not shared:
        text = f"{percent(same_rows, signed=False)} of the rows hold the same shower in both files."
        yield Finding(text, True, repeats=True)
    if not shared and _too_alike(evaluation.histograms):
        text = (
            "Histograms agree better than independent samples could: the generated showers seem to be the "
            "reference showers."
        )
        yield Finding(text, True, repeats=True)


def _too_alike(histograms: Sequence[Histogram]) -> bool:
    sigmas = [chance_sigmas(h.separation) for h in histograms if h.separation.floor_std > 0]
    return len(sigmas) >= 3 and float(np.median(sigmas)) < -SIGMAS
