"""The three plots of the first screen: energy response, depth profile, and the feature that differs most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from caloforge.evaluation.differences import worst_features
from caloforge.evaluation.results import Evaluation, Histogram, Profile
from caloforge.evaluation.significance import excess
from caloforge.report.figures.histograms import draw_histogram
from caloforge.report.figures.marks import few_ticks
from caloforge.report.figures.profiles import draw_profile
from caloforge.report.figures.sheet import SMALL, Drawing, panel_sheet
from caloforge.report.figures.style import GENERATED_STYLE, SampleStyle, model_styles
from caloforge.report.words.text import raised

__all__ = ["draw_deciding", "draw_event_spectra"]

PLOTS = 3
USUAL = ("e_ratio", "longitudinal", "cell_energy", "radial")
"""What is drawn where no feature differs, first that which is looked at first."""

Quantity = Histogram | Profile


def draw_deciding(evaluations: Mapping[str, Evaluation], folder: Path) -> list[Drawing]:
    """Small figures, each of one quantity of all samples with its ratios to Geant4."""
    styles = model_styles(list(evaluations)) if len(evaluations) > 1 else [GENERATED_STYLE]
    return [
        _draw(f"deciding_{k}", quantities, styles, folder, reason)
        for k, (quantities, reason) in enumerate(_chosen(list(evaluations.values())), start=1)
    ]


def _chosen(evaluations: Sequence[Evaluation]) -> Iterator[tuple[list[Quantity], str]]:
    """`PLOTS` quantities of all samples, and why they were chosen."""
    named: list[dict[str, Quantity]] = [
        {h.name: h for h in e.histograms} | dict(e.profiles) for e in evaluations
    ]
    common = [name for name in named[0] if all(name in known for known in named)]
    worst = sorted((h for e in evaluations for h in worst_features(e)), key=excess, reverse=True)
    order = [*USUAL[:2], *(h.name for h in worst), *USUAL[2:], *common]
    chosen = [name for name in dict.fromkeys(order) if name in common][:PLOTS]
    for name in chosen:
        differs = bool(worst) and name == worst[0].name
        yield [known[name] for known in named], " What differs most." if differs else ""


def draw_event_spectra(histograms: Sequence[Histogram], folder: Path) -> list[Drawing]:
    """The histograms of pixel events that differ most, small."""
    chosen = sorted(histograms, key=excess, reverse=True)[:PLOTS]
    return [
        _draw(f"deciding_{k}", [histogram], [GENERATED_STYLE], folder)
        for k, histogram in enumerate(chosen, start=1)
    ]


def _draw(
    name: str, quantities: Sequence[Quantity], styles: Sequence[SampleStyle], folder: Path, reason: str = ""
) -> Drawing:
    """One quantity of all samples, small."""
    first = quantities[0]
    label = raised(first.label.partition(" [")[0])
    if isinstance(first, Profile):
        label += f" against {first.position_label.partition(' [')[0]}"
    models = ", ".join(style.name for style in styles)
    with panel_sheet(
        1, 1, panel=(SMALL, 1.5), margins=(0.55, 0.08, -0.1, 0.45), small=True, models=styles
    ) as page:
        axes, below = page.ratio_panel(0, above=2.2, gap=0.08)
        if isinstance(first, Histogram):
            histograms = [q for q in quantities if isinstance(q, Histogram)]
            draw_histogram(axes, below, histograms, styles, headroom=0.08)
            axes.set_ylabel("fraction per bin")
            below.set_xlabel(first.label)
            few_ticks(axes, below)
        else:
            draw_profile(axes, below, [q for q in quantities if isinstance(q, Profile)], styles)
        below.set_ylabel("ratio", loc="center")
        return page.save(
            folder, name, f"{label}.{reason}", f"{label} of Geant4 and {models}, with ratios to Geant4."
        )
