"""The tables of the page: rows of text, as the templates set them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from caloforge.evaluation.differences import classifier_floor, worst_features
from caloforge.evaluation.results import (
    ClassifierResult,
    Evaluation,
    Localisation,
    Memorisation,
    ResolutionFit,
)
from caloforge.evaluation.significance import beyond_chance, chance_sigmas
from caloforge.report.words.rows import Row as NumberRow
from caloforge.report.words.rows import classifier_sigmas, distance_row, key_rows, number_rows, timing_rows
from caloforge.report.words.significance import sigma_text, significance, standing
from caloforge.report.words.text import (
    classifier_title,
    lowered,
    number,
    percent,
    scatter,
    scatter_percent,
    with_error,
)
from caloforge.runtime.structured import json_text

__all__ = ["Cell", "Table"]

CLASSIFIER_INPUTS = {
    "low": "Dense: every cell’s energy over E_inc.",
    "low-normed": "Dense: cells over the energy of their layer, and layers’ energies.",
    "high": "Dense: energies, centres, widths and sparsity of layers.",
    "resnet": "3D ResNet-18: the whole shower as an image.",
    "c2st": "2D ResNet-18: the plane across the shower, layers as channels (LHCb’s test).",
    "strong": "Dense: cells, their sums and ranks, neighbours of lit cells.",
    "boosted": "Boosted trees: features, rings, spectrum, neighbours of lit cells.",
}
ORIGINS = {"reference": "Geant4 showers", "generated": "Generated showers"}


@dataclass(frozen=True)
class Cell:
    """A cell that is more than a text.

    Attributes:
        text: what it says.
        style: ``beyond`` chance, ``heat-0`` to ``heat-2``, ``best`` of a column, or none.
        beneath: a line below it: what a quantity means, or what chance gives.
    """

    text: str
    style: str = ""
    beneath: str = ""


Row = Sequence[str | Cell]


@dataclass(frozen=True)
class Table:
    """A table whose first column heads its rows.

    Attributes:
        caption: what stands above it.
        head: names of the columns.
        rows: each with a cell a column.
        numbers: align all columns but the first to the right.
        style: ``big`` or ``heat``; on narrow screens all tables' rows are blocks, each cell with its column's
            name.
        scrolls: name of the frame in which it scrolls sideways, or empty for none.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Row]
    numbers: bool = True
    style: str = ""
    scrolls: str = ""


def signed(value: float, form: str = ".1f") -> str:
    """A number with a minus sign that is one."""
    return "not known" if math.isnan(value) else f"{value:{form}}".replace("-", "−")


def sigmas_cell(sigmas: float, beneath: str = "") -> Cell:
    """``told apart, 5.1 σ``, marked as what it says; empty where it is not known."""
    style = {"told apart": "beyond", "hint": "perhaps"}.get(significance(sigmas).says, "")
    return Cell(standing(sigmas), style, beneath)


def numbers(evaluation: Evaluation, *, key: bool = False) -> Table:
    """Every single number beside its floor, or those of the first screen."""
    return numbers_table(number_rows(evaluation), key=key)


def numbers_table(found: Iterable[NumberRow], *, key: bool) -> Table:
    """Numbers, each beside its floor or Geant4's, with their meanings, or the `key_rows` without."""
    rows = key_rows(list(found)) if key else found
    cells = [
        (Cell(row.name, beneath="" if key else row.meaning), row.value, row.floor, sigmas_cell(row.sigmas))
        for row in rows
    ]
    head = ("Quantity", "Generated", "By chance, or Geant4", "Beyond chance")
    caption = "Key numbers" if key else "All numbers"
    return Table(caption, head, cells, style="big", scrolls=lowered(caption))


def worst(evaluation: Evaluation) -> Table:
    """The features that differ most."""
    rows = [
        (
            h.label.partition(" [")[0],
            number(h.separation.value),
            scatter(h.separation.floor, h.separation.floor_std),
            sigma_text(chance_sigmas(h.separation)),
        )
        for h in worst_features(evaluation)
    ]
    caption = "The five features that differ most" if len(rows) == 5 else "The features that differ most"
    return Table(caption, ("Feature", "Separation", "By chance", "Beyond chance"), rows, scrolls=caption)


def classifiers(evaluation: Evaluation) -> Table:
    """AUCs with floors, divergences and errors of all classifiers."""
    head = ("Classifier of", "AUC", "By chance", "Beyond chance", "JSD (bits)", "Wrong", "Showers", "Weights")
    rows = [_classifier_row(result) for result in evaluation.classifiers.values()]
    return Table("Classifiers", head, rows, scrolls="classifiers")


def _classifier_row(result: ClassifierResult) -> Row:
    floor, noise = classifier_floor(result)
    several = len(result.aucs) > 1
    auc, jsd = (
        with_error(value, std) if several else signed(value, ".3f")
        for value, std in ((result.auc, result.auc_std), (result.jsd, result.jsd_std))
    )
    return (
        Cell(classifier_title(result.name), beneath=CLASSIFIER_INPUTS.get(result.name, "")),
        auc,
        f"{floor:.3f} ± {noise:.3f}",
        sigmas_cell(classifier_sigmas(result)),
        jsd,
        "" if result.error_rate is None else f"{100 * result.error_rate:.1f} %",
        " / ".join(number(n) for n in result.showers),
        number(result.parameters) if result.parameters else "",
    )


def telling_showers(evaluation: Evaluation) -> Table:
    """Showers that the classifiers are most sure of."""
    rows = [
        (
            classifier_title(result.name),
            sample,
            number(shower.row),
            f"{number(shower.incident_energy / 1000)} GeV",
            signed(shower.log_weight),
        )
        for result in evaluation.classifiers.values()
        if result.diagnosis is not None
        for sample, showers in (
            ("generated", result.diagnosis.generated_tails),
            ("Geant4", result.diagnosis.reference_tails),
        )
        for shower in showers
    ]
    head = ("Seen by the classifier of", "Sample", "Row in its file", "E_inc", "ln w")
    return Table("Telling showers", head, rows, scrolls="telling showers")


def distances(evaluation: Evaluation) -> Table:
    """FPD, KPD, precision, recall, density and coverage with what they mean."""
    rows = []
    for name, estimate in evaluation.distances.items():
        row = distance_row(name, estimate)
        better = "higher" if estimate.higher_is_better else "lower"
        title = Cell(row.name, beneath=row.meaning)
        chance = number(estimate.p_value, 2) if math.isfinite(estimate.p_value) else ""
        rows.append(
            (title, row.value, row.floor, sigmas_cell(row.sigmas), chance, better, estimate.floor_from)
        )
    head = ("Distance", "Generated", "By chance", "Beyond chance", "p", "Better is", "Floor from")
    return Table("Distances between the samples", head, rows, scrolls="distances")


def shared_layers(found: Localisation) -> Table:
    """Layers whose mean differs within showers that both files hold."""
    rows = [(name, percent(value)) for name, value in found.exact.items()]
    return Table("Layers whose mean differs within the shared showers", ("Layer", "Change of the mean"), rows)


def places(found: Localisation) -> Table:
    """Layers, cells and neighbours whose means differ."""
    rows = [
        (s.name, percent(s.relative, s.error), f"{signed(s.z)} σ", number(s.p_value, 2)) for s in found.shifts
    ]
    head = ("Place", "Generated / Geant4 − 1", "z", "p, corrected")
    return Table("Places whose means differ", head, rows, scrolls="places")


def linearity(evaluation: Evaluation) -> Table:
    """The largest change of the response with each condition."""
    rows = []
    for curve in evaluation.responses:
        change = curve.linearity
        known = math.isfinite(change.floor)
        floor = scatter_percent(change.floor, change.floor_error) if known else "not known"
        rows.append(
            (curve.label.partition(" [")[0], percent(change.value, change.error, signed=False), floor)
        )
    head = ("Against", "Most significant change in a bin", "By chance")
    return Table("Linearity: |generated / Geant4 response − 1|", head, rows)


def fits(evaluation: Evaluation) -> Table:
    """Terms of the resolution of both samples."""
    rows = [
        (
            title,
            _term(fit.stochastic, fit.stochastic_error),
            _term(fit.noise, fit.noise_error),
            _term(fit.constant, fit.constant_error),
            f"{fit.chi2:.1f} / {fit.ndf}",
        )
        for title, fit in _all_fits(evaluation)
    ]
    head = ("Sample", "a (√GeV)", "b (GeV)", "c", "χ² / ndf")
    caption = "Resolution σ/E = a/√E ⊕ b/E ⊕ c, E in GeV"
    return Table(caption, head, rows, scrolls="fits of the resolution")


def _all_fits(evaluation: Evaluation) -> Iterator[tuple[str, ResolutionFit]]:
    for curve in evaluation.responses:
        for title, sample in (("Geant4", "reference"), ("generated", "generated")):
            fit = curve.fits.get(sample)
            if fit is not None:
                yield title, fit


def _term(value: float, error: float) -> str:
    at_bound = value == 0 and math.isnan(error)
    return "0 (at its bound)" if at_bound else with_error(value, error)


def conservation(evaluation: Evaluation) -> Table:
    """Showers with more energy than Geant4 ever shows."""
    kept = evaluation.conservation
    assert kept is not None
    above, chance = (percent(share, signed=False) for share in (kept.reference_above, kept.expected_error))
    rows = [
        (
            f"Showers with ΣE/E_inc above {number(kept.limit, 4)}",
            percent(kept.generated_above, signed=False),
            f"{above} (± {chance})",
        ),
        ("Largest ΣE/E_inc", number(kept.largest, 4), number(kept.largest_reference, 4)),
        (
            "Showers without energy",
            number(kept.negative_or_empty),
            number(evaluation.counts.get("reference_empty", 0)),
        ),
    ]
    return Table("Energy conservation", ("Quantity", "Generated", "Geant4"), rows)


def neighbours(known: Memorisation, one: str = "shower") -> Table:
    """How near generated showers (or what ``one`` is) are to training showers."""
    nearer = known.nearer
    chance = nearer.floor if math.isfinite(nearer.floor) else nearer.ideal
    rows: list[Row] = [
        (
            Cell(f"Nearer to a training than to a held-out {one}", beneath="100 %: copies."),
            percent(nearer.value, nearer.error, signed=False),
            percent(chance, signed=False),
        ),
        (
            Cell("As near as copies", beneath=f"Nearer than 99.9 % of held-out {one}s."),
            number(known.copies),
            number(known.copies_expected, 2),
        ),
        *(
            (f"{one.capitalize()}s, {name.replace('_', ' ')}", number(n), "")
            for name, n in known.counts.items()
        ),
    ]
    return Table("Nearest neighbours", ("Quantity", "Generated", "By chance"), rows)


def nearest_pairs(known: Memorisation, one: str = "shower") -> Table:
    """Rows of the nearest pairs in their files."""
    rows = [(number(generated), number(training)) for generated, training in known.rows]
    return Table("Nearest pairs", (f"Generated {one}", f"Training {one}"), rows)


def timing(evaluation: Evaluation) -> list[Table]:
    """Geant4 against the generator, and how it was measured."""
    rows, how = timing_rows(evaluation)
    return [
        Table("Generator and Geant4", ("Quantity", "Geant4", "Generator"), rows),
        Table("How it was measured", ("Condition", "Value"), how, numbers=False),
    ]


def features(evaluation: Evaluation) -> Table:
    """Separation power, mean and spread of every feature."""
    rows = []
    named = beyond_chance(evaluation.histograms)
    for histogram, beyond in zip(evaluation.histograms, named, strict=True):
        separation = histogram.separation
        means = ("", "")
        compared = evaluation.features.get(histogram.name)
        if compared is not None:
            means = (
                f"{number(compared.reference_mean)} ± {number(compared.reference_std)}",
                f"{number(compared.generated_mean)} ± {number(compared.generated_std)}",
            )
        rows.append(
            (
                histogram.label,
                number(separation.value) + (" *" if beyond else ""),
                scatter(separation.floor, separation.floor_std),
                signed(chance_sigmas(separation)),
                *means,
            )
        )
    head = ("Feature", "Separation", "By chance", "Above chance (σ)", "Geant4", "Generated")
    return Table("Mean ± standard deviation over showers", head, rows, scrolls="all features")


def origins(evaluation: Evaluation, report: Mapping[str, Any]) -> list[tuple[str, Table]]:
    """Where both samples, the evaluation and the report come from, and settings of the classifiers."""
    tables = []
    for name, record in {**evaluation.provenance, "report": report}.items():
        title = ORIGINS.get(name, name.capitalize())
        what = title if name == "reference" else lowered(ORIGINS.get(name, name))
        tables.append(
            (
                title,
                settings(f"Origin of the {what}", record if isinstance(record, Mapping) else {name: record}),
            )
        )
    for result in evaluation.classifiers.values():
        title = f"Classifier “{result.name}”"
        record = {
            "showers of each class to train, to choose and calibrate, to judge": result.showers,
            "AUC of each training": [round(auc, 4) for auc in result.aucs],
            "best epochs": result.best_epochs,
            "seconds": round(result.seconds, 1),
            "device": result.device,
            "settings": result.settings,
        }
        tables.append((title, settings(title, record)))
    return tables


def settings(caption: str, record: Mapping[str, Any]) -> Table:
    """A nested record as a table; ``settings.seed`` names what was nested."""
    return Table(caption, ("Setting", "Value"), list(_flat(record)), numbers=False)


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, item in record.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping) and item:
            yield from _flat(item, f"{name}.")
        elif isinstance(item, str | int | float) or item is None:
            yield name, "" if item is None else str(item)
        else:
            text = json_text(item, ascii_only=False)
            yield name, text if len(text) <= 400 else f"{text[:400]} …"
