"""What metrics of pixel events say: rows, findings, the verdict, warnings."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from caloforge.evaluation.results import Estimate, PixelEvaluation, Quantity, Verdict
from caloforge.report.words.finding import Finding
from caloforge.report.words.rows import Row, estimate_row
from caloforge.report.words.significance import among, sigma_text, significance
from caloforge.report.words.text import number, percent, raised, scatter, scatter_percent, with_error
from caloforge.report.words.verdict import CLOSE, VISIBLE

__all__ = [
    "estimates",
    "event_rows",
    "find_event_verdict",
    "find_event_warnings",
    "headline_quantities",
    "values_text",
]

TOO_FEW = 100
"""Events of one sample below which nothing is concluded from the absence of differences."""
FEW_EVENTS = 200
FAMILIES = {
    "occupancy of ladders": "ladder",
    "occupancy of sensors": "sensor",
    "occupancy of segments": "v-segment",
    "charge of pixels": "quantile or mean of the charge",
    "clusters": "number or shape of clusters",
    "classes of clusters": "class of clusters",
    "rates": "dependence on the rates",
}
"""Groups of quantities that are judged together, by what one of them is."""
RATES_APART = 0.02
_MEANINGS = {
    "fid": "Of Gaussians with the means and covariances of the sensor network’s features; only comparable "
    "with one network.",
    "kid": "Maximum mean discrepancy of the same features; scatters around 0 for equal samples.",
    "linear": "Sees pixels, charges and clusters of all sensors. 0.5 cannot tell.",
    "trees": "They see the same.",
}
_TITLES = {
    "fid": "Fréchet distance of images, FID × 10³",
    "kid": "Kernel distance of images, KID × 10³",
    "linear": "Whole events told apart by a linear judge, AUC",
    "trees": "Whole events told apart by boosted trees, AUC",
}


KEY = ("occupancy_layer_1", "image_occupancy_q99", "charge_mean", "clusters")
"""Single numbers of the first screen."""
CLOSE_BY, VISIBLY_OFF = 0.05, 0.2
"""Relative differences of a single number up to which events are close to Geant4's, or visibly different."""


def headline_quantities(evaluation: PixelEvaluation) -> list[Quantity]:
    """The single numbers that matter most."""
    names = [name for name in evaluation.quantities if name.startswith("occupancy_layer_")]
    names += [
        "image_occupancy_q99",
        "charge_mean",
        "charge_q99",
        "clusters",
        "cluster_pixels",
        "merged",
        "hidden",
    ]
    return [evaluation.quantities[name] for name in names]


def estimates(evaluation: PixelEvaluation) -> Iterator[tuple[str, str, Estimate, float]]:
    """Name, title, estimate and the factor by which it is shown, of everything that has a floor."""
    for name, estimate in evaluation.distances.items():
        yield name, _TITLES.get(name, name), estimate, 1000.0
    for name, estimate in evaluation.classifiers.items():
        yield name, _TITLES.get(name, name), estimate, 1.0
    for name, part in evaluation.correlations.items():
        title = f"Rank correlations of the sensors’ {part.label}, mean absolute difference"
        yield f"correlation_{name}", title, part.distance, 1.0


def event_rows(evaluation: PixelEvaluation) -> list[Row]:
    """The numbers that matter with what chance gives: single quantities first, then distances."""
    rows = [
        Row(
            raised(quantity.label),
            f"Difference {percent(quantity.relative, quantity.error)}; halves of Geant4 differ by "
            f"{scatter_percent(quantity.floor)}.",
            values_text(quantity, generated=True),
            f"Geant4 {values_text(quantity, generated=False)}",
            abs(quantity.sigmas()),
            key=quantity.label in {evaluation.quantities[name].label for name in KEY},
        )
        for quantity in headline_quantities(evaluation)
    ]
    for name, title, estimate, scale in estimates(evaluation):
        row = estimate_row(title, _MEANINGS.get(name, ""), estimate, scale)
        rows.append(replace(row, key=name in ("fid", "trees")))
    return rows


def values_text(quantity: Quantity, *, generated: bool) -> str:
    """A sample's value with error and unit."""
    role = "generated" if generated else "reference"
    text = with_error(getattr(quantity, role), getattr(quantity, f"{role}_error"))
    return f"{text} {quantity.unit}".rstrip()


def find_event_verdict(evaluation: PixelEvaluation) -> Verdict:
    """What agrees and what differs; the level follows the strongest judge of whole events, and the single
    number that is farthest off.

    Of groups of many numbers the one that differs most is named, with the number of others accounted for
    (Bonferroni). Where nothing differs in fewer than 100 events, nothing is said.
    """
    findings = [
        *_estimate_findings(evaluation),
        *_quantity_findings(evaluation),
        *_family_findings(evaluation),
    ]
    differs = [finding for finding in findings if finding.differs]
    fewest = min(evaluation.counts["reference"], evaluation.counts["generated"])
    worst = max(
        (q for q in headline_quantities(evaluation) if abs(q.sigmas()) >= 3),
        key=lambda q: abs(q.relative),
        default=None,
    )
    if differs:
        strongest = max(finding.auc for finding in differs)
        level = 1 if strongest < CLOSE else 2 if strongest < VISIBLE else 3
        off = 0.0 if worst is None else abs(worst.relative)
        level = max(level, 1 if off < CLOSE_BY else 2 if off < VISIBLY_OFF else 3)
    else:
        level = -1 if fewest < TOO_FEW else 0
    counts = evaluation.counts
    events = (
        f"with {number(counts['generated'])} generated and {number(counts['reference'])} reference events"
    )
    headline = {
        -1: f"Too few events to judge: nothing can be told apart {events}.",
        0: f"Not told apart from Geant4 {events}.",
        1: f"Close to Geant4, but told apart from it {events}.",
        2: f"Visibly different from Geant4 {events}.",
        3: f"Easily told apart from Geant4 {events}.",
    }[level]
    return Verdict(
        level=level,
        headline=headline,
        agrees=[] if level == -1 else [f.text for f in findings if not f.differs and not f.hint],
        differs=[finding.text for finding in differs],
        hints=[finding.text for finding in findings if finding.hint],
        giveaway="" if worst is None else f"The {worst.label}: {percent(worst.relative, worst.error)}.",
        significance={name: significance(e.sigmas()) for name, _, e, _ in estimates(evaluation)},
        limits=f"The smaller sample has only {number(fewest)} events." if fewest < TOO_FEW else "",
    )


def _estimate_findings(evaluation: PixelEvaluation) -> Iterator[Finding]:
    for name, title, estimate, scale in estimates(evaluation):
        sigmas = estimate.sigmas()
        if not math.isfinite(sigmas):
            continue
        value = with_error(scale * estimate.value, scale * estimate.error)
        floor = scatter(scale * estimate.floor, scale * estimate.floor_error)
        text = f"{title}: {value}, Geant4 against itself {floor}, {sigma_text(sigmas)}."
        auc = estimate.value if name in evaluation.classifiers else 0.5
        yield Finding.of(significance(sigmas), text, text, text, auc=auc)


def _quantity_findings(evaluation: PixelEvaluation) -> Iterator[Finding]:
    for quantity in headline_quantities(evaluation):
        sigmas = abs(quantity.sigmas())
        if not math.isfinite(sigmas):
            continue
        what = raised(quantity.label)
        values = (
            f"{number(quantity.generated)} against {number(quantity.reference)} {quantity.unit}".rstrip()
            + f", {sigma_text(sigmas)}"
        )
        size = percent(quantity.relative, quantity.error)
        yield Finding.of(
            significance(sigmas),
            f"{what} is off by {size} ({values}).",
            f"{what} may be off by {size} ({values}).",
            f"{what} agrees: {size} ({values}).",
        )


def _family_findings(evaluation: PixelEvaluation) -> Iterator[Finding]:
    for group, one in FAMILIES.items():
        known = [q for q in evaluation.quantities.values() if q.group == group and math.isfinite(q.sigmas())]
        if not known:
            continue
        worst = max(known, key=lambda q: abs(q.sigmas()))
        sigmas = among(abs(worst.sigmas()), len(known))
        size = percent(worst.relative, worst.error)
        most = f"{worst.label}, {size}; {sigma_text(sigmas)} among {len(known)}"
        yield Finding.of(
            significance(sigmas),
            f"At least one {one} differs: {most}.",
            f"Perhaps a {one} differs: {most}.",
            f"No {one} differs by more than chance; most {most}.",
        )


def find_event_warnings(evaluation: PixelEvaluation) -> list[str]:
    """What limits these numbers."""
    return [*_about_rates(evaluation), *_about_counts(evaluation.counts), *_about_network(evaluation)]


def _about_rates(evaluation: PixelEvaluation) -> Iterator[str]:
    known = [evaluation.rates.get(role, {}) for role in ("reference", "generated")]
    if not all(known):
        yield "The rates of a sample are not known: nothing is said at given rates."
        return
    pairs = {name: (first, known[1].get(name)) for name, first in known[0].items()}
    unknown = [name for name, (_, second) in pairs.items() if second is None]
    if unknown:
        yield f"The generated events have no rates of {', '.join(unknown)}."
    apart = [
        f"{second[1]:.3g} against {first[1]:.3g} ({name.replace('_', ' ')})"
        for name, (first, second) in pairs.items()
        if second is not None and abs(second[1] - first[1]) > RATES_APART * first[1]
    ]
    if apart:
        yield (
            f"Mean rates differ, {', '.join(apart)}, and every number here sees that: generate at those of "
            "the truth (caloforge generate --like)."
        )
    if evaluation.rate_curve is None:
        yield "The rates hardly vary: nothing is said of how occupancies follow them."


def _about_counts(counts: dict[str, int]) -> Iterator[str]:
    fewest = min(counts["reference"], counts["generated"])
    if fewest < FEW_EVENTS:
        yield f"The smaller sample has only {number(fewest)} events: floors and errors are large."
    if "training" in counts and min(counts.values()) < 20:
        yield "Whether training events are repeated cannot be told from fewer than 20 events of a sample."


def _about_network(evaluation: PixelEvaluation) -> Iterator[str]:
    network = evaluation.network
    if network is not None and network.accuracy_end < 0.5:
        yield (
            f"The sensor network names layer and end of only {network.accuracy_end:.0%} of true images: FID "
            "and KID say little."
        )
