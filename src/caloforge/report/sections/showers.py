"""Sections with a script behind them: the mean shower layer by layer, and single showers in space."""

from __future__ import annotations

from html import escape

from caloforge.report.html import details, figure
from caloforge.report.material import Material

__all__ = ["events_section", "mean_shower_section"]


def _scale(identifier: str, text: str) -> str:
    return (
        f'<div class="scale" id="{identifier}"><div>{escape(text)}</div><div class="bar"></div>'
        '<div class="ticks" aria-hidden="true"></div></div>'
    )


def mean_shower_section(material: Material) -> str:
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


def events_section(material: Material) -> str:
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
