"""What the means of neighbours of lit cells say, of which there are many."""

from __future__ import annotations

import math
from collections.abc import Iterator

from caloforge.evaluation.results import Evaluation
from caloforge.report.words.finding import Finding
from caloforge.report.words.significance import among, sigma_text, significance

__all__ = ["neighbour_sigmas", "neighbourhood_findings"]


def neighbour_sigmas(evaluation: Evaluation) -> dict[str, float]:
    """How far each mean lies beyond chance, standard deviations; the number of means is accounted for."""
    found = evaluation.neighbourhoods
    return {name: among(abs(metric.difference.sigmas()), len(found)) for name, metric in found.items()}


def neighbourhood_findings(evaluation: Evaluation) -> Iterator[Finding]:
    """One sentence, of the mean that differs most."""
    known = {name: s for name, s in neighbour_sigmas(evaluation).items() if math.isfinite(s)}
    if not known:
        return
    name = max(known, key=known.__getitem__)
    metric, sigmas, n = evaluation.neighbourhoods[name], known[name], len(evaluation.neighbourhoods)
    most = f"most {metric.label} ({sigma_text(sigmas)} among {n})"
    alone = f"{most}, AUC alone {metric.auc.value:.3f}"
    yield Finding.of(
        significance(sigmas),
        f"Neighbours of lit cells differ, {alone}.",
        f"Neighbours of lit cells may differ, {alone}.",
        f"Neighbours of lit cells agree, {most}.",
        auc=metric.auc.value,
    )
