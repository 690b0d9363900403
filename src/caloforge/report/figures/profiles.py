"""Profiles of the mean shower, and separation powers by layer. Legend: ``S`` generated samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from caloforge.evaluation.results import Evaluation, Histogram, Profile
from caloforge.report.figures.marks import (
    Floats,
    by_group,
    filled_stairs,
    layer_ticks,
    points,
    ratio_limits,
    spans_decades,
)
from caloforge.report.figures.sheet import Drawing, panel_sheet
from caloforge.report.figures.style import (
    GENERATED_STYLE,
    REFERENCE,
    REFERENCE_FILL,
    SampleStyle,
    model_styles,
)
from caloforge.report.words.text import group_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "draw_model_profiles",
    "draw_model_separations",
    "draw_profile",
    "draw_profiles",
    "draw_separation",
]


def draw_profiles(profiles: Mapping[str, Profile], folder: Path) -> list[Drawing]:
    """Mean energy against depth and radius, with ratio panels; nothing where there is no profile."""
    if not profiles:
        return []
    with panel_sheet(
        len(profiles),
        min(2, len(profiles)),
        panel=(5.35, 4.2),
        margins=(0.82, 0.15, 0.2, 0.62),
        gaps=(0.27, 0.28),
    ) as page:
        for k, profile in enumerate(profiles.values()):
            axes, below = page.ratio_panel(k)
            draw_profile(axes, below, [profile], [GENERATED_STYLE])
            axes.legend(loc="upper right")
        names = ", ".join(name.replace("_", " ") for name in profiles)
        caption = f"Mean profiles: {names}."
        alt = f"Mean profiles, {names}: Geant4 and generated with their ratio."
        return [page.save(folder, "profiles", caption, alt)]


def draw_model_profiles(evaluations: Mapping[str, Evaluation], folder: Path) -> list[Drawing]:
    """Mean energy against depth and radius, and means of features by layer, of several models."""
    per_model = [_with_layer_means(e) for e in evaluations.values()]
    names = [n for n in per_model[0] if all(n in p for p in per_model)]
    if not names:
        return []
    styles = model_styles(list(evaluations))
    with panel_sheet(
        len(names), 2, panel=(5.2, 3.7), margins=(0.78, 0.15, 0.1, 0.6), gaps=(0.24, 0.27), models=styles
    ) as page:
        for k, name in enumerate(names):
            axes, below = page.ratio_panel(k, above=2.2)
            draw_profile(axes, below, [p[name] for p in per_model], styles)
        labels = ", ".join(per_model[0][n].label.partition(" [")[0] for n in names)
        caption = f"Means: {labels}."
        alt = f"Profiles of Geant4 and {', '.join(evaluations)}, with ratios to Geant4: {labels}."
        return [page.save(folder, "profiles", caption, alt)]


def _with_layer_means(evaluation: Evaluation) -> dict[str, Profile]:
    """Profiles of the evaluation, and means by layer of sparsity and radial widths."""
    found = dict(evaluation.profiles)
    counts = np.sqrt([evaluation.counts["reference"], evaluation.counts["generated"]])
    for group, label in (("sparsity", "mean sparsity"), ("width_r", "mean width in r [mm]")):
        histograms = [h for h in evaluation.histograms if h.group == group and h.name in evaluation.features]
        if len(histograms) < 2:
            continue
        compared = [evaluation.features[h.name] for h in histograms]
        at = np.array([h.layer for h in histograms], dtype=np.float64)
        found[f"mean_{group}"] = Profile(
            name="longitudinal",
            label=label,
            position_label="layer",
            positions=at,
            edges=np.append(at - 0.5, at[-1] + 0.5),
            reference=np.array([c.reference_mean for c in compared]),
            generated=np.array([c.generated_mean for c in compared]),
            reference_error=np.array([c.reference_std for c in compared]) / counts[0],
            generated_error=np.array([c.generated_std for c in compared]) / counts[1],
        )
    return found


def draw_profile(axes: Axes, below: Axes, profiles: Sequence[Profile], styles: Sequence[SampleStyle]) -> None:
    """One profile of all samples, and the ratios to Geant4."""
    several = len(styles) > 1
    head = profiles[0]
    edges: Floats = head.edges
    positions: Floats = head.positions
    by_layer = head.name == "longitudinal"
    if by_layer:  # layers are equally wide, whatever their numbers
        positions = np.arange(len(positions), dtype=np.float64)
        edges = np.arange(len(positions) + 1, dtype=np.float64) - 0.5
    filled_stairs(axes, head.reference, edges)
    base = np.where(head.reference > 0, head.reference, np.nan)
    spread = head.reference_error / base
    below.stairs(1 + spread, edges, baseline=1 - spread, fill=True, color=REFERENCE_FILL)
    below.axhline(1, color=REFERENCE, linewidth=0.8)
    ratios = []
    for style, profile in zip(styles, profiles, strict=True):
        look = {"color": style.colour, "linestyle": style.line}
        axes.stairs(profile.generated, edges, linewidth=1.2, label=style.name, **look)
        ratio, error = profile.generated / base, profile.generated_error / base
        if several:
            points(below, positions, ratio, error, style.colour, style.marker, size=3, width=0.8)
        else:
            points(axes, positions, profile.reference, profile.reference_error, REFERENCE, "")
            points(axes, positions, profile.generated, profile.generated_error, style.colour, "")
            points(below, positions, ratio, error, style.colour, "o")
        ratios.append((ratio, np.hypot(error, spread)))
    ratio_limits(below, ratios)
    _scale_profile(axes, np.concatenate([head.reference, *(p.generated for p in profiles)]), several)
    if spans_decades(edges):
        axes.set_xscale("log")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylabel(head.label)
    axes.tick_params(labelbottom=False)
    below.set_ylabel("ratio", loc="center")
    below.set_xlabel(head.position_label)
    if by_layer:
        step = max(1, len(positions) // 10)
        below.set_xticks(positions[::step], [f"{number:g}" for number in head.positions[::step]])
        for part in (axes, below):
            part.tick_params(axis="x", which="minor", bottom=False, top=False)


def _scale_profile(axes: Axes, values: Floats, several: bool) -> None:
    """Limits of the energies; beside one sample there is room for a legend."""
    positive = values[values > 0]
    if not len(positive):
        return
    low, high = positive.min(), positive.max()
    if high > 30 * low:
        axes.set_yscale("log")
        axes.set_ylim(low / 2, 2 * high if several else high * (high / low) ** 0.3)
    else:
        axes.set_ylim(0, (1.1 if several else 1.35) * high)


def draw_separation(groups: Mapping[str, Sequence[Histogram]], folder: Path) -> list[Drawing]:
    """Separation power of every layer, one panel a feature, with what chance alone would give."""
    several = {name: [part] for name, part in groups.items() if len(part) > 1}
    return _draw_separations(several, [GENERATED_STYLE], folder)


def draw_model_separations(evaluations: Mapping[str, Evaluation], folder: Path) -> list[Drawing]:
    """Separation power of every layer for every model, one panel a feature."""
    per_model = [by_group(e.histograms) for e in evaluations.values()]
    several = {
        group: [parts[group] for parts in per_model]
        for group, part in per_model[0].items()
        if len(part) > 1 and all(group in parts for parts in per_model)
    }
    return _draw_separations(several, model_styles(list(evaluations)), folder)


def _draw_separations(
    groups: Mapping[str, Sequence[Sequence[Histogram]]], styles: Sequence[SampleStyle], folder: Path
) -> list[Drawing]:
    if not groups:
        return []
    several = len(styles) > 1
    with panel_sheet(
        len(groups),
        min(3, len(groups)),
        panel=(3.45, 2.1 if several else 1.95),
        margins=(0.75, 0.1, 0.3, 0.5),
        gaps=(0.24, 0.42),
        small=True,
        models=styles if several else (),
        lines=False,
    ) as page:
        for k, (name, parts) in enumerate(groups.items()):
            axes = page.panel(k)
            _draw_separation(axes, parts, styles)
            axes.set_title(group_title(name), pad=2.5, fontweight="bold")
            page.label(k, axes, "layer", "separation power")
            if k == 0 and not several:
                axes.legend(loc="upper right")
        models = f" of {', '.join(style.name for style in styles)}" if several else ""
        return [
            page.save(
                folder,
                "separation_by_layer",
                "Separation power by layer. Grey: chance ± 3σ.",
                f"Separation power against layer{models} for {', '.join(map(group_title, groups))}.",
            )
        ]


def _draw_separation(axes: Axes, parts: Sequence[Sequence[Histogram]], styles: Sequence[SampleStyle]) -> None:
    """Separation powers of one feature of all samples, (S, layers), over the mean band of chance."""
    several = len(styles) > 1
    at = np.arange(len(parts[0]))
    separations = [[h.separation for h in part] for part in parts]
    values = np.array([[s.value for s in part] for part in separations])
    floor = np.mean([[s.floor for s in part] for part in separations], axis=0)
    spread = np.mean([[s.floor_std for s in part] for part in separations], axis=0)
    low, high = np.maximum(floor - 3 * spread, 0), floor + 3 * spread
    axes.fill_between(at, low, high, step="mid", color=REFERENCE_FILL, linewidth=0, label="by chance ± 3σ")
    axes.step(at, floor, where="mid", color=REFERENCE, linewidth=0.8)
    for style, value in zip(styles, values, strict=True):
        marker = style.marker if several else "o"
        axes.plot(at, value, marker, color=style.colour, markersize=2.7, label="separation power")
    if several and values.max() > 20 * max(float(np.median(floor)), 1e-9) and (values > 0).all():
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, (1.1 if several else 1.3) * max(float(values.max()), float(high.max()), 1e-9))
    layer_ticks(axes, parts[0])
