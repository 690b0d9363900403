"""The table of all families in Markdown, from what families.py measured; needs no other package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["RIGHT", "table"]

RIGHT = "Geant4 again"


def deviation(row: Mapping[str, Any], truth: Mapping[str, Sequence[float]]) -> float:
    """Of the neighbourhoods, the largest relative deviation from Geant4's."""
    return float(max(abs(row["neighbours"][key][0] / truth[key][0] - 1) for key in truth))


def table(rows: Mapping[str, Mapping[str, Any]], truth: Mapping[str, Sequence[float]]) -> str:
    """Markdown, the best first by the strongest judge."""
    judges = list(next(iter(rows.values()))["strong"])
    heads = ["", "is", *(f"strong AUC, {judge}" for judge in judges), "quick AUC, cells", "high"]
    heads += ["FPD (by chance)", "KPD·10³", "recall", "separation", "response", "resolution", "neighbours"]
    heads += ["ms at 1 / 100 / 1000", "× Geant4", "MiB", "parameters", "showers", "minutes of training"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, row in sorted(rows.items(), key=lambda item: item[1]["strong"][judges[-1]]["auc"][0]):
        cells = [name, row["kind"], *("{:.3f} ± {:.3f}".format(*row["strong"][j]["auc"]) for j in judges)]
        cells += ["{:.3f} ± {:.3f}".format(*row["auc"][key]) for key in ("low", "high")]
        cells.append("{0:.3g} ({2:.2g})".format(*row["fpd"]))
        cells.append("{0:.3g} ({2:.2g})".format(*(1e3 * value for value in row["kpd"])))
        cells += [f"{row['recall'][0]:.2f}", f"{row['separation'][0]:.4f}"]
        cells += ["{:.3f}–{:.3f}".format(*row["response"]), "{:.2f}–{:.2f}".format(*row["resolution"])]
        cells.append(f"{100 * deviation(row, truth):.0f} %")
        if "ms" in row:
            ms, training = row["ms"], row["training"]
            trained = f"{training['minutes']:.1f}, {training['device']}" if training["showers"] else "–"
            cells += [" / ".join(f"{value:.3g}" if value else "–" for value in ms.values())]
            cells += [f"{row['geant4_ms'] / min(filter(None, ms.values())):.0f}", f"{row['memory_mib']:.0f}"]
            cells += [f"{row['parameters'] / 1e6:.2f} M", str(training["showers"] or "–"), trained]
        else:
            cells += [""] * 6
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
