"""What backgrounds do to signal, and how occupancy follows the rates."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from caloforge.evaluation.results import PixelEvaluation, RateCurve
from caloforge.report.figures.marks import both_points, points
from caloforge.report.figures.sheet import Drawing, panel_sheet
from caloforge.report.figures.style import GENERATED

__all__ = ["draw_overlay", "draw_rates"]

_TITLES = {"merged": "merged with background", "hidden": "hidden by background"}


def draw_overlay(evaluation: PixelEvaluation, folder: Path) -> list[Drawing]:
    """Shares of signal clusters that are merged with background or hidden by it, by layer and kind."""
    with panel_sheet(2, 2, panel=(5.3, 3.5), margins=(0.85, 0.15, 0.35, 0.75), gaps=(0.2, 0.0)) as page:
        for k, (outcome, title) in enumerate(_TITLES.items()):
            axes = page.panel(k)
            prefix = f"{outcome}_"
            found = {
                n.removeprefix(prefix): q for n, q in evaluation.quantities.items() if n.startswith(prefix)
            }
            at = np.arange(float(len(found)))
            true = np.array([(q.reference, q.reference_error) for q in found.values()])
            made = np.array([(q.generated, q.generated_error) for q in found.values()])
            both_points(axes, (at - 0.08, *true.T), (at + 0.08, *made.T), size=5)
            names = [n.replace("_layer_", "\nlayer ") for n in found]
            axes.set_xticks(at, names)
            axes.tick_params(which="minor", bottom=False, top=False)
            axes.set_xlim(-0.6, len(at) - 0.4)
            axes.set_ylim(0, 1.25 * axes.get_ylim()[1])
            axes.set_title(title, fontsize="medium")
            if not k:
                axes.set_ylabel("signal clusters (%)")
                axes.legend(loc="upper right")
        return [
            page.save(
                folder,
                "overlay",
                "Signal clusters that background merges with, or hides with more charge.",
                "Shares of merged and hidden signal clusters by layer and angle, Geant4 and generated.",
            )
        ]


def draw_rates(curve: RateCurve, folder: Path) -> list[Drawing]:
    """Occupancy of each layer against the rate, and generated over Geant4."""
    n = len(curve.reference)
    with panel_sheet(
        n, min(n, 2), panel=(5.3, 3.85), margins=(0.85, 0.15, 0.35, 0.6), gaps=(0.24, 0.26)
    ) as page:
        for i in range(n):
            axes, below = page.ratio_panel(i)
            both_points(
                axes,
                (curve.reference_rate, curve.reference[i], curve.reference_error[i]),
                (curve.generated_rate, curve.generated[i], curve.generated_error[i]),
            )
            ratio = curve.generated[i] / curve.reference[i] * curve.reference_rate / curve.generated_rate
            error = np.hypot(
                curve.generated_error[i] / curve.generated[i], curve.reference_error[i] / curve.reference[i]
            )
            points(below, curve.reference_rate, ratio, ratio * error, GENERATED, "s")
            below.axhline(1, color="#9aa0a8", linewidth=0.8, zorder=0)
            axes.set_ylim(0, None)
            axes.tick_params(labelbottom=False)
            axes.set_title(f"layer {i + 1}", fontsize="medium")
            axes.set_ylabel("occupancy (%)")
            below.set_ylabel("ratio", loc="center")
            below.set_xlabel("mean of the rate factors")
            axes.legend(loc="upper left")
        return [
            page.save(
                folder,
                "rates",
                "Occupancy of layers against the rates; the ratio is of occupancies over rates.",
                "Occupancy against the rate, Geant4 and generated with their ratio.",
            )
        ]
