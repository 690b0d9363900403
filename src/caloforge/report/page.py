"""The page: every section in order, put into the template that lies beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from caloforge.evaluation.results import Evaluation
from caloforge.report import sections
from caloforge.report.html import script_data, section
from caloforge.report.material import Material
from caloforge.report.payload import to_script_json
from caloforge.report.words.rows import number
from caloforge.runtime.provenance import code_version

__all__ = ["fill_template", "render"]

POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "worker-src blob:; base-uri 'none'; form-action 'none'"
)
"""What the browser lets the page load: nothing but what is inside it."""


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
        ("verdict", "Verdict", sections.verdict_section(evaluation)),
        ("numbers", "The numbers", sections.numbers_section(evaluation)),
        ("warnings", "Warnings", sections.warnings_section(evaluation)),
        ("classifiers", "Classifiers", sections.classifiers_section(evaluation, material)),
        ("distances", "Distances", sections.distances_section(evaluation)),
        ("places", "Where they differ", sections.localisation_section(evaluation)),
        ("response", "Response and resolution", sections.response_section(evaluation, material)),
        ("shapes", "Shower shapes", sections.shapes_section(material)),
        ("distributions", "Distributions", sections.distributions_section(evaluation, material, titles)),
        ("profiles", "Profiles", sections.profiles_section(material)),
        ("correlations", "Correlations", sections.correlations_section(evaluation, material)),
        ("slices", "By energy and direction", sections.slices_section(evaluation)),
        ("conservation", "Energy conservation", sections.conservation_section(evaluation)),
        ("memorisation", "Memorisation", sections.memorisation_section(evaluation, material)),
        ("mean-shower", "Mean shower", sections.mean_shower_section(material)),
        ("events", "Single showers", sections.events_section(material)),
        ("timing", "Time", sections.timing_section(evaluation)),
        ("features", "All features", sections.features_section(evaluation)),
        ("provenance", "Settings and origin", sections.provenance_section(evaluation, provenance)),
    ]
    data = []
    if material.layers_data is not None:
        data.append(script_data("data-layers", to_script_json(material.layers_data)))
    plotly = ""
    if material.events_data is not None:
        data.append(script_data("data-events", to_script_json(material.events_data)))
        plotly = get_plotlyjs().replace("</script", "<\\/script")
    made = str(provenance.get("time_utc", ""))
    return fill_template(title, _subtitle(evaluation), parts, made, data="\n".join(data), plotly=plotly)


def fill_template(
    title: str,
    subtitle: str,
    parts: Iterable[tuple[str, str, str]],
    made: str = "",
    *,
    data: str = "",
    plotly: str = "",
) -> str:
    """A page of sections (identifier, title, body); those without a body are left out."""
    assets = files("caloforge.report") / "assets"
    shown = [part for part in parts if part[2]]
    when = f", {made}" if made else ""
    return Template((assets / "page.html").read_text(encoding="utf-8")).substitute(
        version=escape(code_version()),
        policy=POLICY,
        title=escape(title),
        subtitle=escape(subtitle),
        style=(assets / "page.css").read_text(encoding="utf-8"),
        first=escape(shown[0][0]) if shown else "",
        navigation="\n".join(f'<li><a href="#{key}">{escape(name)}</a></li>' for key, name, _ in shown),
        sections="\n".join(section(*part) for part in shown),
        footer=escape(f"Made by caloforge {code_version()}{when}. This page loads nothing from a network."),
        data=data,
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
