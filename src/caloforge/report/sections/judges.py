"""Sections on what judges the whole shower: classifiers, distances, nearest neighbours, local means."""

from __future__ import annotations

import math
from collections.abc import Sequence

from caloforge.evaluation.differences import classifier_floor
from caloforge.evaluation.results import ClassifierResult, Evaluation
from caloforge.report.html import details, explained, figure, markup, note, scroll, table
from caloforge.report.material import Material
from caloforge.report.sections.overview import sigmas_cell
from caloforge.report.words.rows import DISTANCES, classifier_sigmas, estimate_row, number
from caloforge.report.words.text import classifier_title, percent

__all__ = ["classifiers_section", "distances_section", "localisation_section", "memorisation_section"]

_INPUTS = {
    "low": "A dense network that sees every cell’s energy over E_inc.",
    "low-normed": "A dense network that sees cells over the energy of their layer, and the layers’ energies.",
    "high": "A dense network that sees energies, centres, widths and sparsity of the layers.",
    "resnet": "A 3D ResNet-18 that sees the whole shower as an image.",
    "c2st": "A 2D ResNet-18 that sees the plane across the shower, layers as channels (LHCb’s test).",
}


def classifiers_section(evaluation: Evaluation, material: Material) -> str:
    """AUCs with floors, the weights, what the networks rely on and the showers that are told most easily."""
    results = list(evaluation.classifiers.values())
    if not results:
        return ""
    head = ("Classifier of", "AUC", "By chance", "Beyond chance", "JSD (bits)", "Wrong", "Showers", "Weights")
    html = [
        note(
            "Networks are trained to tell Geant4 showers from generated ones and judged on showers they "
            "have not seen. AUC: area under the ROC curve, 0.5 cannot tell, 1 always can. JSD: "
            "Jensen–Shannon divergence, 0 same, 1 disjoint; it scatters around 0 by chance. Wrong: share "
            "of showers put into the wrong class, 50 % cannot tell. Showers: of each class, to train / "
            "choose / judge. A network that sees no difference proves little where it was trained on few "
            "showers."
        ),
        scroll(
            table("Classifiers", head, [_classifier_row(r) for r in results], numbers=True, style="stack"),
            "classifiers",
        ),
    ]
    html += [figure(drawing, detailed=True) for drawing in (material.weights, material.inputs) if drawing]
    tales = [row for result in results for row in _tale_rows(result)]
    if tales:
        columns = ("Seen by the classifier of", "Sample", "Row in its file", "E_inc", "ln w")
        body = note(
            "Generated showers with the smallest weights are those that Geant4 hardly makes; Geant4 showers "
            "with the largest are those that the generator hardly makes."
        )
        body += scroll(table("Telling showers", columns, tales, numbers=True), "telling showers")
        html.append(details("Showers that give their origin away", body, aside=f"{len(tales)} showers"))
    return "\n".join(html)


def _classifier_row(result: ClassifierResult) -> Sequence[str]:
    floor, noise = classifier_floor(result)
    several = len(result.aucs) > 1
    auc, jsd = (
        f"{value:.3f} ± {std:.3f}".replace("-", "−") if several else f"{value:.3f}".replace("-", "−")
        for value, std in ((result.auc, result.auc_std), (result.jsd, result.jsd_std))
    )
    return (
        explained(classifier_title(result.name), _INPUTS.get(result.name, "")),
        auc,
        f"{floor:.3f} ± {noise:.3f}",
        sigmas_cell(classifier_sigmas(result)),
        jsd,
        "" if result.error_rate is None else f"{100 * result.error_rate:.1f} %",
        " / ".join(number(n) for n in result.showers),
        number(result.parameters) if result.parameters else "",
    )


def _tale_rows(result: ClassifierResult) -> list[Sequence[str]]:
    if result.diagnosis is None:
        return []
    return [
        (
            classifier_title(result.name),
            sample,
            number(tale.row),
            f"{number(tale.incident_energy / 1000)} GeV",
            f"{tale.log_weight:.1f}".replace("-", "−"),
        )
        for sample, tales in (
            ("generated", result.diagnosis.generated_tails),
            ("Geant4", result.diagnosis.reference_tails),
        )
        for tale in tales
    ]


def distances_section(evaluation: Evaluation) -> str:
    """FPD, KPD, precision, recall, density and coverage with what they mean."""
    rows = []
    for name, estimate in evaluation.distances.items():
        title, meaning = DISTANCES.get(name, (name, ""))
        row = estimate_row(title, meaning, estimate, 1e3 if name in ("fpd", "kpd") else 1.0)
        better = "higher" if estimate.higher_is_better else "lower"
        rows.append(
            (
                explained(row.name, row.meaning),
                row.value,
                row.floor,
                sigmas_cell(row.sigmas),
                better,
                estimate.floor_from,
            )
        )
    if not rows:
        return ""
    head = ("Distance", "Generated", "By chance", "Beyond chance", "Better is", "Floor from")
    return scroll(
        table("Distances between the samples", head, rows, numbers=True, style="stack"), "distances"
    )


def localisation_section(evaluation: Evaluation) -> str:
    """Layers, cells and neighbours whose means differ."""
    found = evaluation.localisation
    if found is None:
        return ""
    html = [
        note(
            "Mean energies place by place. Of a layer the linear dependence on all other layers is "
            "removed first, so that a change of one per cent in a single layer is seen; products of "
            "neighbouring cells see cells that trade places. p is multiplied by the number of places "
            "looked at; named are places with p < 0.01."
        )
    ]
    total = ", ".join(
        f"{number(found.found.get(kind, 0))} of {number(n)} {_places(kind)}"
        for kind, n in found.tested.items()
    )
    html.append(f"<p>Differ by more than chance: {total}.</p>" if total else "")
    if found.shared_showers > 0:
        html.append(
            '<div class="warnings" role="note"><p>'
            f"{percent(found.shared_showers, signed=False)} of the rows hold the same shower in both "
            "files: the samples are not independent, and floors and errors do not hold.</p></div>"
        )
    if found.exact:
        rows: list[Sequence[str]] = [(name, percent(value)) for name, value in found.exact.items()]
        html.append(
            table(
                "Layers whose mean differs within the shared showers",
                ("Layer", "Change of the mean"),
                rows,
                numbers=True,
            )
        )
    if found.shifts:
        rows = [
            (s.name, percent(s.relative, s.error), f"{s.z:.1f} σ".replace("-", "−"), number(s.p_value, 2))
            for s in found.shifts
        ]
        head = ("Place", "Generated / Geant4 − 1", "z", "p, corrected")
        body = scroll(table("Places whose means differ", head, rows, numbers=True), "places")
        html.append(body if len(rows) <= 12 else details(f"Table of {len(rows)} places", body))
    return "\n".join(html)


def _places(kind: str) -> str:
    return {"layer": "layers", "cell": "cells", "neighbours": "pairs of neighbours"}.get(kind, kind)


def memorisation_section(evaluation: Evaluation, material: Material) -> str:
    """Nearest training and held-out showers."""
    known = evaluation.memorisation
    if known is None:
        return ""
    html = [
        f"<p><strong>{markup(known.verdict)}</strong></p>" if known.verdict else "",
        note(
            f"Distances between showers of similar incident energy, in the space of {known.space}. A "
            "generator that has learnt makes showers as far from its training showers as new Geant4 "
            "showers are."
        ),
    ]
    chance = known.nearer.floor if math.isfinite(known.nearer.floor) else known.nearer.ideal
    rows: list[Sequence[str]] = [
        (
            explained(
                "Nearer to a training than to a held-out shower", "100 % for a copy of the training set."
            ),
            percent(known.nearer.value, known.nearer.error, signed=False),
            percent(chance, signed=False),
        ),
        (
            explained("As near as copies", "Nearer than all but 0.1 % of the held-out showers are."),
            number(known.copies),
            number(known.copies_expected, 2),
        ),
        *((f"Showers, {name.replace('_', ' ')}", number(n), "") for name, n in known.counts.items()),
    ]
    html.append(table("Nearest neighbours", ("Quantity", "Generated", "By chance"), rows, numbers=True))
    if material.memorisation is not None:
        html.append(figure(material.memorisation))
    if known.rows:
        pairs: list[Sequence[str]] = [(number(a), number(b)) for a, b in known.rows]
        body = table("Nearest pairs", ("Generated shower", "Training shower"), pairs, numbers=True)
        html.append(details("The generated showers nearest to a training shower", body))
    return "\n".join(html)
