"""The page: every section in order, put into the template that lies beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from caloforge.evaluation import Evaluation
from caloforge.provenance import code_version
from caloforge.report.html import definition_rows, details, figure, script_data, section, table
from caloforge.report.payload import to_script_json
from caloforge.report.style import Drawing
from caloforge.report.summary import (
    beyond_chance,
    excess,
    number,
    summary_rows,
    timing_table,
    verdict,
    worst_features,
)

__all__ = ["Material", "render"]

POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "worker-src blob:; base-uri 'none'; form-action 'none'"
)
"""What the browser lets the page load: nothing but what is inside it."""


@dataclass
class Material:
    """Everything drawn for a page, by the section that shows it."""

    overview: list[Drawing] = field(default_factory=list)
    separation: Drawing | None = None
    groups: dict[str, list[Drawing]] = field(default_factory=dict)
    profiles: Drawing | None = None
    side: Drawing | None = None
    layers: list[Drawing] = field(default_factory=list)
    events: Drawing | None = None
    response: Drawing | None = None
    layers_data: dict[str, Any] | None = None
    events_data: dict[str, Any] | None = None


def render(
    evaluation: Evaluation,
    material: Material,
    titles: Mapping[str, str],
    title: str,
    provenance: Mapping[str, Any],
) -> str:
    """The whole page as one string that loads nothing from anywhere."""
    from plotly.offline import get_plotlyjs

    parts = [
        ("summary", "Summary", _summary(evaluation)),
        ("timing", "Time", _timing(evaluation)),
        ("distributions", "Distributions", _distributions(evaluation, material, titles)),
        (
            "profiles",
            "Profiles",
            "" if material.profiles is None else figure(material.profiles, detailed=True),
        ),
        ("mean-shower", "Mean shower", _mean_shower(material)),
        ("events", "Single showers", _events(material)),
        ("response", "Response and resolution", _response(material)),
        ("features", "All features", _features(evaluation)),
        ("provenance", "Settings and origin", _provenance(evaluation, provenance)),
    ]
    parts = [part for part in parts if part[2]]
    data = []
    if material.layers_data is not None:
        data.append(script_data("data-layers", to_script_json(material.layers_data)))
    plotly = ""
    if material.events_data is not None:
        data.append(script_data("data-events", to_script_json(material.events_data)))
        plotly = get_plotlyjs().replace("</script", "<\\/script")
    assets = files("caloforge.report") / "assets"
    made = provenance.get("time_utc", "")
    return Template((assets / "page.html").read_text(encoding="utf-8")).substitute(
        version=escape(code_version()),
        policy=POLICY,
        title=escape(title),
        subtitle=escape(_subtitle(evaluation)),
        style=(assets / "page.css").read_text(encoding="utf-8"),
        navigation="\n".join(f'<li><a href="#{key}">{escape(name)}</a></li>' for key, name, _ in parts),
        sections="\n".join(section(*part) for part in parts),
        footer=escape(f"Made by caloforge {code_version()}, {made}. This page loads nothing from a network."),
        data="\n".join(data),
        plotly=plotly,
        script=(assets / "page.js").read_text(encoding="utf-8"),
    )


def _subtitle(evaluation: Evaluation) -> str:
    ranges = evaluation.conditions.get("reference") or {}
    detectors = [name for name in ranges.get("detector", ()) if name]
    mesh = str(evaluation.mesh.get("kind", "")).replace("-", " ")
    voxels = len(evaluation.mean_shower.get("reference", ()))
    text = f"{number(evaluation.counts['generated'])} generated showers, judged against "
    text += f"{number(evaluation.counts['reference'])} of Geant4"
    text += f" in {', '.join(detectors)}" if detectors else ""
    return text + f"; {mesh} mesh of {number(voxels)} cells."


def _summary(evaluation: Evaluation) -> str:
    outcome = verdict(evaluation)
    html = (
        f'<div class="verdict level-{outcome.level}"><p class="headline">{escape(outcome.headline)}</p>'
        f"<p>{escape(outcome.sentences)}</p></div>\n"
    )
    worst = [
        (h.label.partition(" [")[0], number(h.separation.value), number(excess(h)))
        for h in worst_features(evaluation)
    ]
    first = table(
        "The numbers that matter",
        ("Quantity", "Generated", "Geant4 or ideal"),
        summary_rows(evaluation),
        style="big",
    )
    second = ""
    if worst:
        caption = "The five worst features" if len(worst) == 5 else "The worst features"
        second = table(caption, ("Feature", "Separation", "Above chance"), worst, numbers=True)
    html += f'<div class="tables wide">\n<div>{first}</div>\n<div>{second}</div>\n</div>'
    if evaluation.warnings:
        items = "".join(f"<li>{escape(text)}</li>" for text in evaluation.warnings)
        html += (
            '\n<div class="warnings" role="note" aria-labelledby="warnings-title">'
            f'<h3 id="warnings-title">What limits these numbers</h3><ul>{items}</ul></div>'
        )
    return html


def _timing(evaluation: Evaluation) -> str:
    rows, how = timing_table(evaluation)
    first = table("Generator and Geant4", ("Quantity", "Geant4", "Generator"), rows, numbers=True)
    second = table("How it was measured", ("Condition", "Value"), how)
    return (
        f'<div class="tables"><div>{first}</div><div>{second}</div></div>'
        '<p class="note">Geant4’s time is scaled to the mean incident energy of the generated showers.</p>'
    )


def _distributions(evaluation: Evaluation, material: Material, titles: Mapping[str, str]) -> str:
    html = [
        '<p class="note">Separation power S is ½ Σ (p − q)² / (p + q): 0 where two histograms agree, 1 where '
        "they do not overlap. “By chance” is what two samples of these sizes and the same origin would give. "
        "Bands are statistical errors. Neighbouring bins are joined for drawing where entries are few; S is "
        "always that of the original bins. Triangles mark ratios beyond the axis.</p>"
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
    return "\n".join(html)


def _scale(identifier: str, text: str) -> str:
    return (
        f'<div class="scale" id="{identifier}"><div>{escape(text)}</div><div class="bar"></div>'
        '<div class="ticks" aria-hidden="true"></div></div>'
    )


def _mean_shower(material: Material) -> str:
    html = []
    data = material.layers_data
    if data is not None:
        last = len(data["numbers"]) - 1
        canvases = "".join(
            f'<figure><figcaption>{name}</figcaption><canvas id="layer-{key}" role="img" '
            f'aria-label="{name}"></canvas></figure>'
            for key, name in (
                ("reference", "Geant4"),
                ("generated", "Generated"),
                ("difference", "Relative difference"),
            )
        )
        hidden = " hidden" if last == 0 else ""
        html.append(
            '<p class="note">Mean energy of every cell, seen along the shower. Differences below two '
            "standard errors are left white.</p>"
            f'<div class="controls"{hidden}><label>Layer <input type="range" id="layer-slider" min="0" '
            f'max="{last}" value="{data["start"]}" step="1"></label></div>\n'
            f'<output id="layer-text" for="layer-slider"></output>\n<div class="trio">{canvases}</div>\n'
            '<div class="scales">'
            + _scale("scale-energy", "mean energy of a cell")
            + _scale("scale-difference", "(generated − Geant4) / Geant4")
            + '</div>\n<p class="note" id="cell-text"></p>'
        )
    if material.side is not None:
        html.append(figure(material.side, detailed=True))
    if material.layers:
        body = "\n".join(figure(drawing, detailed=True) for drawing in material.layers)
        html.append(details("Every layer", body))
    return "\n".join(html)


def _events(material: Material) -> str:
    html = []
    data = material.events_data
    if data is not None:
        options = "".join(
            f'<option value="{i}">{escape(pair["title"])}</option>' for i, pair in enumerate(data["pairs"])
        )
        scenes = "".join(
            f'<figure><figcaption>{name}</figcaption><div class="scene" id="scene-{key}" role="img" '
            f'aria-label="{name} shower in three dimensions"></div>'
            f'<p class="note" id="note-{key}"></p></figure>'
            for key, name in (("reference", "Geant4"), ("generated", "Generated"))
        )
        manner = "Cells are drawn smaller the less energy they hold."
        if data["single"]:
            manner = "The length of a cell is the logarithm of its energy."
        html.append(
            '<p class="note">Each generated shower is the one whose incident energy and direction are '
            f"nearest to the Geant4 shower’s; nothing else chose them. {manner} Drag to turn both.</p>\n"
            '<div id="no-webgl" class="no-webgl" hidden>This browser offers no WebGL, so the showers cannot '
            "be drawn in three dimensions; the figure below shows them from the side.</div>\n"
            '<div id="scenes">\n<div class="controls">'
            f'<label class="short">Shower <select id="event-choice">{options}</select></label>'
            '<label>Cells above <input type="range" id="threshold" min="0" max="90" value="0" step="2"> '
            '<span id="threshold-text"></span></label></div>\n'
            f'<div class="pair">{scenes}</div>\n'
            f'<div class="scales">{_scale("scale-cells", "energy of a cell")}</div>\n</div>'
        )
    if material.events is not None:
        html.append(details("The same showers from the side", figure(material.events, detailed=True)))
    return "\n".join(html)


def _response(material: Material) -> str:
    return "" if material.response is None else figure(material.response, detailed=True)


def _features(evaluation: Evaluation) -> str:
    rows: list[Sequence[str]] = []
    for histogram in evaluation.histograms:
        compared = evaluation.features.get(histogram.name)
        means = ("", "")
        if compared is not None:
            means = (
                f"{number(compared.reference_mean)} ± {number(compared.reference_std)}",
                f"{number(compared.generated_mean)} ± {number(compared.generated_std)}",
            )
        mark = " *" if beyond_chance(histogram) else ""
        rows.append(
            (
                histogram.label,
                number(histogram.separation.value) + mark,
                number(histogram.separation.floor),
                *means,
            )
        )
    if not rows:
        return ""
    head = ("Feature", "Separation", "By chance", "Geant4", "Generated")
    body = '<div class="scroll" tabindex="0" role="region" aria-label="all features">'
    body += table("Mean ± standard deviation over showers", head, rows, numbers=True) + "</div>"
    return (
        '<p class="note">An asterisk marks separation powers more than three standard deviations above '
        f"chance.</p>{details(f'Table of {len(rows)} features', body)}"
    )


def _provenance(evaluation: Evaluation, report: Mapping[str, Any]) -> str:
    html = []
    records = {**evaluation.provenance, "report": report}
    names = {"reference": "Geant4 showers", "generated": "Generated showers"}
    for name, record in records.items():
        title = names.get(name, name.capitalize())
        rows = definition_rows(record) if isinstance(record, Mapping) else [(name, str(record))]
        body = table(f"Origin of the {title[:1].lower() + title[1:] if name not in names else title}",
                     ("Setting", "Value"), rows)  # fmt: skip
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
