"""The record at the end: every feature's numbers, and settings and origin of everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from caloforge.evaluation.results import Evaluation
from caloforge.evaluation.significance import beyond_chance, chance_sigmas
from caloforge.report.html import definition_rows, details, note, scroll, table
from caloforge.report.words.rows import number

__all__ = ["features_section", "provenance_section"]


def features_section(evaluation: Evaluation) -> str:
    """Separation power, mean and spread of every feature."""
    named = beyond_chance(evaluation.histograms)
    rows: list[Sequence[str]] = []
    for histogram, beyond in zip(evaluation.histograms, named, strict=True):
        compared = evaluation.features.get(histogram.name)
        means = ("", "")
        if compared is not None:
            means = (
                f"{number(compared.reference_mean)} ± {number(compared.reference_std)}",
                f"{number(compared.generated_mean)} ± {number(compared.generated_std)}",
            )
        separation = histogram.separation
        rows.append(
            (
                histogram.label,
                number(separation.value) + (" *" if beyond else ""),
                f"{number(separation.floor)} ± {number(separation.floor_std, 2)}",
                f"{chance_sigmas(separation):.1f}".replace("-", "−"),
                *means,
            )
        )
    if not rows:
        return ""
    head = ("Feature", "Separation", "By chance", "Above chance (σ)", "Geant4", "Generated")
    body = table("Mean ± standard deviation over showers", head, rows, numbers=True)
    text = (
        "An asterisk marks features that differ by more than chance; their number is taken into account "
        "(Benjamini–Hochberg, 1 % false alarms)."
    )
    return note(text) + details(f"Table of {len(rows)} features", scroll(body, "all features"))


def provenance_section(evaluation: Evaluation, report: Mapping[str, Any]) -> str:
    """Where both samples, the evaluation and the report come from; settings of the classifiers."""
    html = []
    records = {**evaluation.provenance, "report": report}
    names = {"reference": "Geant4 showers", "generated": "Generated showers"}
    for name, record in records.items():
        title = names.get(name, name.capitalize())
        rows = definition_rows(record) if isinstance(record, Mapping) else [(name, str(record))]
        what = title if name in names else name
        body = table(
            f"Origin of the {what[:1].lower() + what[1:] if name != 'reference' else what}",
            ("Setting", "Value"),
            rows,
        )
        html.append(details(title, body if rows else "<p>Nothing is recorded.</p>"))
    for result in evaluation.classifiers.values():
        rows = definition_rows(
            {
                "showers of each class to train, to choose and calibrate, to judge": result.showers,
                "AUC of each training": [round(auc, 4) for auc in result.aucs],
                "best epochs": result.best_epochs,
                "seconds": round(result.seconds, 1),
                "device": result.device,
                "settings": result.settings,
            }
        )
        body = table(f"Classifier “{result.name}”", ("Setting", "Value"), rows)
        html.append(details(f"Classifier “{result.name}”", body))
    return "\n".join(html)
