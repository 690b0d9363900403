"""Tables of what tells showers apart: neighbourhoods, what the judges rely on, and where their AUC goes."""

from __future__ import annotations

import math

from caloforge.evaluation.results import Estimate, Evaluation, ModelComparison, NeighbourhoodMetric
from caloforge.report.tables import Cell, Row, Table, sigmas_cell
from caloforge.report.words.neighbourhoods import neighbour_sigmas
from caloforge.report.words.significance import standing
from caloforge.report.words.text import classifier_title, feature_words, number, scatter, with_error

__all__ = ["compared_neighbourhoods", "curves", "equivalent", "importances", "neighbourhoods"]

MOST_IMPORTANT = 12
MOST_EQUIVALENT = 12


def neighbourhoods(evaluation: Evaluation, *, whole: bool) -> Table:
    """The neighbourhood observables of whole showers, or those of rings, layers and distances."""
    rows = []
    sigmas = neighbour_sigmas(evaluation)
    for name, metric in evaluation.neighbourhoods.items():
        if (metric.place is None) != whole:
            continue
        separation = evaluation.separation.get(name)
        difference, alone = metric.difference, metric.auc
        rows.append(
            (
                metric.label,
                with_error(metric.reference_mean, metric.reference_error),
                with_error(metric.generated_mean, metric.generated_error),
                _beyond(sigmas[name], difference),
                with_error(alone.value, alone.error),
                "" if separation is None else f"{number(separation.value)} ({number(separation.floor, 2)})",
            )
        )
    head = ("Per shower", "Geant4", "Generated", "Beyond chance (chance)", "AUC alone", "Separation (chance)")
    caption = "Neighbours of lit cells" if whole else "By ring, layer and distance"
    return Table(caption, head, rows, scrolls=caption)


def _beyond(sigmas: float, difference: Estimate) -> Cell:
    """How far a difference lies beyond its floor, with the floor beneath."""
    return sigmas_cell(sigmas, scatter(difference.floor, difference.floor_error))


def compared_neighbourhoods(comparison: ModelComparison) -> Table:
    """The neighbourhood observables of whole showers, and of the innermost rings, of all models."""
    evaluations = list(comparison.evaluations.values())
    sigmas = [neighbour_sigmas(e) for e in evaluations]
    rows: list[Row] = []
    for name, metric in evaluations[0].neighbourhoods.items() if evaluations else ():
        inner = metric.place is not None and metric.group.endswith("_ring") and metric.place <= 1
        if metric.place is not None and not inner:
            continue
        found = [(e.neighbourhoods.get(name), s.get(name)) for e, s in zip(evaluations, sigmas, strict=True)]
        reference = with_error(metric.reference_mean, metric.reference_error)
        rows.append((metric.label, reference, *(_compared(*m) for m in found)))
    head = ("Per shower", "Geant4", *(m.name for m in comparison.models))
    return Table("Neighbours of lit cells", head, rows, scrolls="neighbours of lit cells")


def _compared(metric: NeighbourhoodMetric | None, sigmas: float | None) -> Cell:
    if metric is None or sigmas is None:
        return Cell("–")
    beyond = standing(sigmas)
    return Cell(
        with_error(metric.generated_mean, metric.generated_error),
        beneath=f"{beyond}, AUC alone {metric.auc.value:.3f}" if beyond else "",
    )


def importances(evaluation: Evaluation) -> list[Table]:
    """What each classifier relies on, ranked, largest AUC of a classifier first."""
    tables = []
    known = {name: metric.label for name, metric in evaluation.neighbourhoods.items()}
    for result in sorted(evaluation.classifiers.values(), key=lambda r: -r.auc):
        if result.diagnosis is None:
            continue
        shares = [(share, True) for share in result.diagnosis.groups[:4]]
        shares += [(share, False) for share in result.diagnosis.features[:MOST_IMPORTANT]]
        rows = [
            (
                known.get(share.name) or feature_words(share.name, evaluation.histograms),
                "several" if together else "one",
                with_error(share.drop, share.error),
                f"{share.alone:.3f}" if math.isfinite(share.alone) else "",
            )
            for share, together in shares
        ]
        caption = f"Classifier of {classifier_title(result.name)}, AUC {result.auc:.3f}"
        head = ("Input", "Inputs", "AUC lost without it", "AUC alone")
        tables.append(Table(caption, head, rows, scrolls=caption))
    return tables


def curves(evaluation: Evaluation) -> Table:
    """AUC by number of showers, and what it leads to."""
    rows = []
    for result in evaluation.classifiers.values():
        curve = result.curve
        if curve is None:
            continue
        measured = ", ".join(
            f"{number(n)}: {auc:.3f}" for n, auc in zip(curve.showers, curve.aucs.tolist(), strict=True)
        )
        rows.append(
            (
                classifier_title(result.name),
                measured,
                f"± {curve.errors[-1]:.3f}",
                with_error(curve.expected.value, curve.expected.error),
            )
        )
    head = (
        "Classifier of",
        "Measured with showers of each sample: AUC",
        "Error",
        "Expected with 100\u202f000",
    )
    return Table("More showers, stronger judges", head, rows, scrolls="learning curves")


def equivalent(evaluation: Evaluation) -> Table:
    """What the generator is worth in showers of Geant4: profiles, and the means that are worth least."""
    profiles = {name: e for name, e in evaluation.equivalent.items() if name in evaluation.profiles}
    means = {n: e for n, e in evaluation.equivalent.items() if n not in profiles and math.isfinite(e.showers)}
    worst = sorted(means, key=lambda name: means[name].showers)[:MOST_EQUIVALENT]
    labels = {h.name: h.label.partition(" [")[0] for h in evaluation.histograms}
    rows = []
    for name, found in {**profiles, **{name: means[name] for name in worst}}.items():
        if not found.bins:
            continue
        what = f"{name.replace('_', ' ')} profile" if name in profiles else labels.get(name, name)
        seen = _rounded(found.showers) if math.isfinite(found.showers) else "no bias seen"
        rows.append((what, seen, f"> {_rounded(found.at_least)}" if found.at_least >= 1 else ""))
    head = ("Observable", "Worth so many Geant4 showers", "At least")
    return Table("Equivalent Geant4 statistics", head, rows, scrolls="equivalent statistics")


def _rounded(showers: float) -> str:
    return "less than 1" if showers < 1 else number(float(f"{showers:.3g}"))
