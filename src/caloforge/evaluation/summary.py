"""An evaluation as a table for the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.table import Table

from caloforge.evaluation.verdict import find_verdict
from caloforge.evaluation.verdict.findings import classifier_floor
from caloforge.evaluation.verdict.words import classifier_title, group_title, lowered, percent, with_error

if TYPE_CHECKING:
    from caloforge.evaluation.results import Estimate, Evaluation

__all__ = ["summary_table"]

_THOUSANDTHS = ("fpd", "kpd")


def summary_table(evaluation: Evaluation) -> Table:
    """One row a number with its floor: response, classifiers, distances, separation powers and time.

    The title is the verdict's headline, the caption the warnings.
    """
    verdict = evaluation.verdict or find_verdict(evaluation)
    table = Table(title=verdict.headline, caption="\n".join(evaluation.warnings) or None)
    table.add_column("quantity")
    table.add_column("value", justify="right")
    table.add_column("by chance", justify="right")
    response = evaluation.features.get("e_ratio")
    if response is not None:
        for name, made, true in (
            ("mean of E_tot / E_inc", response.generated_mean, response.reference_mean),
            ("spread of E_tot / E_inc", response.generated_std, response.reference_std),
        ):
            table.add_row(name, f"{made:.4f}", f"reference {true:.4f}")
    for name, result in evaluation.classifiers.items():
        title = f"{classifier_title(name)} ({result.settings.get('preset') or 'custom'})"
        several = len(result.aucs) > 1
        spread, jsd = (f" ± {s:.3f}" if several else "" for s in (result.auc_std, result.jsd_std))
        floor, noise = classifier_floor(result)
        table.add_row(f"AUC {title}", f"{result.auc:.3f}{spread}", f"{floor:.3f} ± {noise:.3f}")
        table.add_row(f"JSD {title}", f"{result.jsd:.3f}{jsd}", "0")
    for name, estimate in evaluation.distances.items():
        scale = 1e3 if name in _THOUSANDTHS else 1.0
        title = f"{name.upper()} × 10³" if name in _THOUSANDTHS else name
        table.add_row(title, *_estimate(estimate, scale))
    for correlation in evaluation.correlations.values():
        table.add_row(f"correlation of {correlation.name}, rms difference", *_estimate(correlation.distance))
    for group, separation in evaluation.group_separation().items():
        label = f"separation, {lowered(group_title(group))}"
        table.add_row(
            label, f"{separation.value:.5f}", f"{separation.floor:.5f} ± {separation.floor_std:.5f}"
        )
    if evaluation.memorisation is not None:
        nearer = evaluation.memorisation.nearer
        value = percent(nearer.value, nearer.error, signed=False)
        table.add_row("nearer to training than to held-out showers", value, "50 %")
    timing = evaluation.timing
    if timing.generator_ms is not None:
        table.add_row("ms per shower", f"{timing.generator_ms:.3g}", "")
    if timing.geant4_ms is not None:
        table.add_row("Geant4 ms per shower, same energies", f"{timing.geant4_ms:.3g}", "")
    if timing.speed_up is not None:
        table.add_row("speed-up", f"{timing.speed_up:.0f}×", "")
    return table


def _estimate(estimate: Estimate, scale: float = 1.0) -> tuple[str, str]:
    """Value and floor with their errors; the ideal where there is no floor."""
    value = with_error(scale * estimate.value, scale * estimate.error)
    if math.isnan(estimate.floor):
        return value, f"ideal {estimate.ideal:g}"
    return value, with_error(scale * estimate.floor, scale * estimate.floor_error)
