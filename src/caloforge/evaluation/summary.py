"""An evaluation as a table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from caloforge.evaluation.results import Evaluation

__all__ = ["summary_table"]

_GROUPS = {
    "e_ratio": "E_tot / E_inc",
    "e_layer": "energy per layer",
    "sparsity": "sparsity",
    "cell_energy": "cell energy",
}


def summary_table(evaluation: Evaluation) -> Table:
    """One row a number: response, classifiers, separation powers (mean over layers) and time."""
    counts = evaluation.counts
    table = Table(title=f"{counts['generated']} generated against {counts['reference']} reference showers")
    table.add_column("quantity")
    table.add_column("value", justify="right")
    table.add_column("expected by chance", justify="right")
    response = evaluation.features.get("e_ratio")
    if response is not None:
        table.add_row(
            "mean E_tot / E_inc", f"{response.generated_mean:.4f}", f"reference {response.reference_mean:.4f}"
        )
        table.add_row(
            "spread of E_tot / E_inc",
            f"{response.generated_std:.4f}",
            f"reference {response.reference_std:.4f}",
        )
    for name, result in evaluation.classifiers.items():
        preset = result.settings.get("preset") or "custom"
        spread = f" ± {result.auc_std:.3f}" if len(result.aucs) > 1 else ""
        if result.auc_floor is None:
            floor = f"0.500 ± {result.auc_noise:.3f}"
        else:
            floor = f"{result.auc_floor:.3f} ± {max(result.auc_floor_std or 0.0, result.auc_noise):.3f}"
        table.add_row(f"AUC {name} ({preset})", f"{result.auc:.3f}{spread}", floor)
        table.add_row(f"JSD {name} ({preset})", f"{result.jsd:.3f}", "0")
    for group, separation in evaluation.group_separation().items():
        label = _GROUPS.get(group, group.replace("_", " "))
        table.add_row(f"separation, {label}", f"{separation.value:.5f}", f"{separation.floor:.5f}")
    timing = evaluation.timing
    if timing.generator_ms is not None:
        table.add_row("ms per shower", f"{timing.generator_ms:.3g}", "")
    if timing.geant4_ms is not None:
        table.add_row("Geant4 ms per shower, same energies", f"{timing.geant4_ms:.3g}", "")
    if timing.speed_up is not None:
        table.add_row("speed-up", f"{timing.speed_up:.0f}×", "")
    for warning in evaluation.warnings:
        table.caption = f"{table.caption}\n{warning}" if table.caption else warning
    return table
