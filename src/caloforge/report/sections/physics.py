"""Sections on distributions, response, shapes, correlations, slices and energy conservation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from caloforge.evaluation.results import Estimate, Evaluation, ResolutionFit, Slice
from caloforge.evaluation.significance import chance_sigmas
from caloforge.report.html import Markup, details, figure, markup, note, scroll, table
from caloforge.report.material import Material
from caloforge.report.words.rows import with_error
from caloforge.report.words.text import classifier_title, group_title, lowered, number, percent

__all__ = [
    "conservation_section",
    "correlations_section",
    "distributions_section",
    "profiles_section",
    "response_section",
    "shapes_section",
    "slices_section",
]


def response_section(evaluation: Evaluation, material: Material) -> str:
    """Response, linearity and resolution with fits."""
    if not evaluation.responses:
        return ""
    html = [
        note(
            "Response: mean of ΣE / E_inc. Linearity: the response must change with energy as Geant4’s does. "
            "Resolution: spread over mean; narrower than Geant4 is as wrong as wider."
        )
    ]
    rows: list[Sequence[str]] = [
        (
            curve.label.partition(" [")[0],
            percent(curve.linearity.value, curve.linearity.error, signed=False),
            percent(curve.linearity.floor, curve.linearity.floor_error, signed=False)
            if math.isfinite(curve.linearity.floor)
            else "not known",
        )
        for curve in evaluation.responses
    ]
    head = ("Against", "Most significant change in a bin", "By chance")
    html.append(table("Linearity: |generated / Geant4 response − 1|", head, rows, numbers=True))
    fits = [
        (sample, fit)
        for curve in evaluation.responses
        for sample, fit in (
            ("Geant4", curve.fits.get("reference")),
            ("generated", curve.fits.get("generated")),
        )
        if fit is not None
    ]
    if fits:
        terms = ("Sample", "a (√GeV)", "b (GeV)", "c", "χ² / ndf")
        body = table(
            "Resolution σ/E = a/√E ⊕ b/E ⊕ c, E in GeV", terms, [_fit(*f) for f in fits], numbers=True
        )
        html.append(scroll(body, "fits of the resolution"))
    html += [figure(drawing, detailed=True) for drawing in material.responses]
    return "\n".join(html)


def _fit(sample: str, fit: ResolutionFit) -> Sequence[str]:
    return (
        sample,
        _term(fit.stochastic, fit.stochastic_error),
        _term(fit.noise, fit.noise_error),
        _term(fit.constant, fit.constant_error),
        f"{fit.chi2:.1f} / {fit.ndf}",
    )


def _term(value: float, error: float) -> str:
    at_bound = value == 0 and math.isnan(error)
    return "0 (at its bound)" if at_bound else with_error(value, error)


def shapes_section(material: Material) -> str:
    """Histograms of one observable a shower."""
    if not material.shapes:
        return ""
    text = (
        "One entry a shower. Start: depth in front of which 5 % of the energy lies; length: depth that "
        "holds the middle 90 %. Asymmetries compare the energy ahead of and behind (longitudinal), left "
        "and right of (transverse) the projected trajectory; shifts are the distances of the centre of "
        "energy from it, widths the energy-weighted spreads."
    )
    return "\n".join([note(text), *(figure(drawing, detailed=True) for drawing in material.shapes)])


def distributions_section(evaluation: Evaluation, material: Material, titles: Mapping[str, str]) -> str:
    """Histograms of every feature with ratios."""
    html = [
        note(
            "Separation power S is ½ Σ (p − q)² / (p + q): 0 where two histograms agree, 1 where they do "
            "not overlap. “By chance” is what two samples of these sizes and the same origin would give. "
            "Bands are statistical errors. Neighbouring bins are joined for drawing where entries are "
            "few; S is always that of the original bins. Triangles mark ratios beyond the axis."
        )
    ]
    html += [figure(drawing, detailed=True) for drawing in material.overview]
    if material.separation is not None:
        html.append(figure(material.separation, detailed=True))
    means = evaluation.group_separation()
    for group, drawings in material.groups.items():
        mean = means[group]
        body = "\n".join(figure(drawing, detailed=True) for drawing in drawings)
        aside = f"mean separation power {number(mean.value)}, by chance {number(mean.floor)}"
        html.append(details(titles[group], body, aside=aside))
    return "\n".join(html) if len(html) > 1 else ""


def profiles_section(material: Material) -> str:
    """Mean energies along depth and radius, and how many cells lie above a threshold."""
    return "" if material.profiles is None else figure(material.profiles, detailed=True)


def correlations_section(evaluation: Evaluation, material: Material) -> str:
    """Matrices side by side with their difference."""
    html = []
    for name, drawing in material.correlations.items():
        distance = evaluation.correlations[name].distance
        floor = f", by chance {with_error(distance.floor, distance.floor_error)}"
        text = f"Between {name}: root mean square difference {with_error(distance.value, distance.error)}"
        html.append(f"<p>{markup(text + (floor if math.isfinite(distance.floor) else ''))}.</p>")
        html.append(figure(drawing, detailed=True))
    if not html:
        return ""
    text = (
        "Correlation coefficients (Pearson) between energies at fixed incident energy. A generator may have "
        "every histogram right and still not know which layers go together."
    )
    return "\n".join([note(text), *html])


def conservation_section(evaluation: Evaluation) -> str:
    """Showers with more energy than Geant4 ever shows."""
    kept = evaluation.conservation
    if kept is None:
        return ""
    rows: list[Sequence[str]] = [
        (
            f"Showers with ΣE/E_inc above {number(kept.limit, 4)}",
            percent(kept.generated_above, signed=False),
            f"{percent(kept.reference_above, signed=False)} (± {percent(kept.expected_error, signed=False)})",
        ),
        ("Largest ΣE/E_inc", number(kept.largest, 4), number(kept.largest_reference, 4)),
        (
            "Showers without energy",
            number(kept.negative_or_empty),
            number(evaluation.counts.get("reference_empty", 0)),
        ),
    ]
    html = [
        note(
            "The limit is the energy that one Geant4 shower in a thousand exceeds, or the largest where "
            "there are fewer; in brackets what chance adds."
        ),
        table("Energy conservation", ("Quantity", "Generated", "Geant4"), rows, numbers=True),
    ]
    if kept.worst:
        html.append(
            note(f"Generated showers farthest above the limit: {', '.join(map(number, kept.worst))}.")
        )
    return "\n".join(html)


def slices_section(evaluation: Evaluation) -> str:
    """A table a condition: metrics by bin, coloured by how far they lie above chance."""
    conditions: dict[str, list[Slice]] = {}
    for part in evaluation.slices:
        conditions.setdefault(part.condition, []).append(part)
    if not conditions:
        return ""
    html = [
        note(
            "Every metric in bins of the incident conditions, with what chance gives beneath. Colours: "
            "pale from three, strong from six standard deviations above chance."
        )
    ]
    for condition, parts in conditions.items():
        title = {"energy": "Incident energy", "theta": "θ", "phi": "φ"}.get(condition, condition.capitalize())
        html.append(scroll(_heat_table(title, parts), f"metrics in bins of {condition}"))
        notes = [f"{_bin_label(part)}: {part.note}" for part in parts if part.note]
        html += [note(text) for text in notes]
    return "\n".join(html)


def _heat_table(title: str, parts: Sequence[Slice]) -> str:
    groups = list(dict.fromkeys(group for part in parts for group in part.separation))
    metrics = list(dict.fromkeys(name for part in parts for name in part.metrics))
    shares = (f"{number(p.counts['generated'])} / {number(p.counts['reference'])}" for p in parts)
    rows: list[Sequence[str]] = [
        ("Showers, generated / Geant4", *(_heat(share, "", 0.0) for share in shares)),
        ("Response, generated / Geant4 − 1", *(_response_cell(part) for part in parts)),
    ]
    for name in metrics:
        scale = 1e3 if name in ("fpd", "kpd") else 1.0
        cells = (_estimate_cell(part.metrics.get(name), scale) for part in parts)
        rows.append((_metric_title(name), *cells))
    for group in groups:
        rows.append(
            (f"Separation, {lowered(group_title(group))}", *(_separation_cell(part, group) for part in parts))
        )
    return table(title, ("Metric", *(_bin_label(part) for part in parts)), rows, numbers=True, style="heat")


def _bin_label(part: Slice) -> str:
    """The label without the condition, which the table's title gives."""
    return part.label.removeprefix(f"{part.condition} ")


def _metric_title(name: str) -> str:
    if name.startswith("auc_"):
        return f"AUC, {classifier_title(name.removeprefix('auc_'))}"
    return f"{name.upper()} × 10³" if name in ("fpd", "kpd") else name.capitalize()


def _heat(text: str, beneath: str, sigmas: float) -> Markup:
    strength = 2 if sigmas >= 6 else 1 if sigmas >= 3 else 0
    small = f"<small>{markup(beneath)}</small>" if beneath else ""
    return Markup(f'<span class="heat-{strength}">{markup(text)}{small}</span>')


def _response_cell(part: Slice) -> str:
    r, n = part.response, part.counts
    if min(n.values()) < 2 or not r.reference_mean > 0:
        return ""
    error = math.hypot(
        r.reference_std / r.reference_mean / math.sqrt(n["reference"]),
        r.generated_std / r.reference_mean / math.sqrt(n["generated"]),
    )
    shift = r.generated_mean / r.reference_mean - 1
    return _heat(
        percent(shift), f"± {percent(error, signed=False)}", abs(shift) / error if error > 0 else 0.0
    )


def _estimate_cell(estimate: Estimate | None, scale: float) -> str:
    if estimate is None:
        return ""
    floor = with_error(scale * estimate.floor, scale * estimate.floor_error)
    known = math.isfinite(estimate.floor)
    sigmas = estimate.sigmas() if known else 0.0
    return _heat(with_error(scale * estimate.value, scale * estimate.error), floor if known else "", sigmas)


def _separation_cell(part: Slice, group: str) -> str:
    separation = part.separation.get(group)
    if separation is None:
        return ""
    return _heat(number(separation.value, 2), number(separation.floor, 2), chance_sigmas(separation))
