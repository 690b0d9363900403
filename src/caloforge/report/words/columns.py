"""The columns of a comparison's table: their headings, and a metric as it stands in a cell."""

from __future__ import annotations

import math
from collections.abc import Mapping

from caloforge.evaluation.comparison.ranking import best_model, common_floor
from caloforge.evaluation.results import Column, Estimate
from caloforge.report.words.rows import display_scale
from caloforge.report.words.text import drowned, group_title, with_error

__all__ = ["cell_text", "floor_text", "table_columns", "value_text"]

_MAIN = {
    "fpd": "FPD × 10³",
    "kpd": "KPD × 10³",
    "log_posterior": "log-posterior",
    "ms": "ms per shower",
    "speed_up": "speed-up",
}
_MORE = {
    "worst_feature": "AUC of the worst feature",
    "fpd_trimmed": "FPD × 10³ of the central 99 %",
    "sliced_wasserstein": "sliced Wasserstein distance",
    "sliced_ks": "sliced Kolmogorov-Smirnov distance",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "correlation_layers": "layer correlations (rms difference)",
    "correlation_cells": "cell correlations (rms difference)",
    "linearity_energy": "linearity in energy",
    "nearer_training": "nearer to the training showers",
}


def table_columns(metrics: Mapping[str, Mapping[str, Estimate]]) -> list[Column]:
    """The columns of the table for the metrics of all models, by name; metrics that at least one has."""
    known = (key for found in metrics.values() for key, e in found.items() if math.isfinite(e.value))
    order = list(dict.fromkeys(known))
    return [
        Column(
            key=key,
            label=_label(key),
            part=_part(key),
            floor=common_floor([m[key] for m in metrics.values() if key in m]),
            best=best_model(key, metrics),
        )
        for key in order
    ]


def _label(key: str) -> str:
    kind, _, rest = key.partition("_")
    if kind in ("auc", "jsd"):
        return f"{kind.upper()} {rest}"
    if kind == "separation":
        return group_title(rest)
    if key == "error_rate_c2st":
        return "C2ST error rate"
    return (_MAIN | _MORE).get(key, key.replace("_", " "))


def _part(key: str) -> str:
    if key.startswith("auc_") or key in _MAIN:
        return "main"
    return "separation" if key.startswith("separation_") else "more"


def cell_text(key: str, estimate: Estimate) -> str:
    """A metric as it stands in a table; FPD and KPD times 1000, as the field quotes them."""
    value, error = (display_scale(key) * x for x in (estimate.value, estimate.error))
    return with_error(value, error) if drowned(value, error) else value_text(value, error)


def floor_text(key: str, estimate: Estimate) -> str:
    """What chance gives, a mean and how it scatters; Geant4's own log-posterior is a result as any other."""
    if key == "log_posterior":
        return cell_text(key, estimate)
    scale = display_scale(key)
    return value_text(scale * estimate.value, scale * estimate.error)


def value_text(value: float, error: float = math.nan) -> str:
    """A value and its error: two digits of an error that begins with 1 or 2, else one; without, three."""
    if not math.isfinite(value):
        return "–"
    if not (math.isfinite(error) and error > 0):
        return _plain(value)
    power = math.floor(math.log10(error))
    decimals = (1 if error / 10.0**power < 2.95 else 0) - power
    if decimals > 5 and abs(value) < 1e-2:
        return f"({1e3 * value:.{decimals - 3}f} ± {1e3 * error:.{decimals - 3}f})·10⁻³".replace("-", "−")
    decimals = min(max(decimals, 0), 5)
    return f"{value:.{decimals}f} ± {error:.{decimals}f}".replace("-", "−")


def _plain(value: float) -> str:
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return (f"{value:.{decimals}f}" if decimals < 7 else f"{value:.2g}").replace("-", "−")
