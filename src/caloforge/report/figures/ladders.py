"""Occupancies where they are: ladders around the beam, and maps of the unrolled layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from caloforge.detector import PixelDetector
from caloforge.evaluation.results import PixelEvaluation, Quantity
from caloforge.report.figures.marks import Floats, both_points, scale_end
from caloforge.report.figures.sensors import unrolled
from caloforge.report.figures.sheet import SMALL, Drawing, Sheet, sheet
from caloforge.report.figures.style import GENERATED_NAME, REFERENCE_NAME

if TYPE_CHECKING:
    from matplotlib.colors import Normalize

__all__ = ["draw_ladders", "draw_maps"]

DIFFERENCES = "RdBu_r"


def _limit(values: Floats) -> float:
    """End of a symmetric scale of relative differences: the largest, rounded up to 5 %."""
    return scale_end(values, 20, 1.0)


def draw_ladders(
    detector: PixelDetector, evaluation: PixelEvaluation, folder: Path
) -> tuple[list[Drawing], list[Drawing]]:
    """Ladders seen along the beam, coloured by occupancy and by its difference, as small figures of a panel
    each; and the numbers against φ."""
    from matplotlib.colors import LogNorm, Normalize

    ladders = [
        (layer, k, evaluation.quantities[f"occupancy_ladder_{layer + 1}.{k + 1}"])
        for layer, part in enumerate(detector.layers)
        for k in range(part.ladders)
    ]
    values = np.array([(q.reference, q.generated) for *_, q in ladders])
    relative = np.array([q.relative for *_, q in ladders])
    low, high = float(np.min(values[values > 0], initial=1e3)), float(np.max(values, initial=1e-6))
    norm = LogNorm(0.9 * low, 1.1 * high, clip=True) if high > 10 * low else Normalize(0, high, clip=True)
    limit = _limit(relative)
    difference = f"{GENERATED_NAME} / {REFERENCE_NAME} − 1"
    panels = (
        (REFERENCE_NAME, values[:, 0], norm, "viridis", "occupancy (%)"),
        (GENERATED_NAME, values[:, 1], norm, "viridis", "occupancy (%)"),
        (difference, relative, Normalize(-limit, limit, clip=True), DIFFERENCES, "relative difference"),
    )
    beam = [
        _draw_beam(f"ladders_{k + 1}", detector, ladders, panel, folder) for k, panel in enumerate(panels)
    ]
    with sheet(10.4, 2.9) as page:
        _against_phi(page, (0.75, 0.6, 9.5, 2.0), detector, ladders)
        phi = page.save(
            folder,
            "ladders_phi",
            "Occupancy of ladders over their layer’s mean in Geant4.",
            "Occupancy of ladders against φ, layer by layer: Geant4 and generated.",
        )
    return beam, [phi]


def _draw_beam(
    name: str,
    detector: PixelDetector,
    ladders: Sequence[Ladder],
    panel: tuple[str, Floats, Normalize, str, str],
    folder: Path,
) -> Drawing:
    title, values, norm, colours, label = panel
    with sheet(SMALL, 2.85, small=True) as page:
        side = SMALL - 0.7
        _beam_view(page, (0.35, 0.6, side), detector, ladders, values, norm, colours)
        page.figure.axes[-1].set_title(title, fontweight="bold", loc="center", pad=2)
        page.colour_bar(page.axes(0.35, 0.42, side, 0.08), norm, colours, label)
        caption = f"Occupancy of ladders: {title}."
        return page.save(folder, name, caption, f"{title}: ladders around the beam pipe by {label}.")


Ladder = tuple[int, int, Quantity]


def _beam_view(
    page: Sheet,
    place: tuple[float, float, float],
    detector: PixelDetector,
    ladders: Sequence[Ladder],
    values: Floats,
    norm: Normalize,
    colours: str,
) -> None:
    """Ladders as they stand around the beam pipe."""
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Circle

    left, bottom, side = place
    axes = page.axes(left, bottom, side, side)
    lines, reach = [], 0.0
    for layer, k, _ in ladders:
        part = detector.layers[layer]
        phi = np.radians(part.first_phi_deg) + 2 * np.pi * k / part.ladders
        outward, along = np.array([np.cos(phi), np.sin(phi)]), np.array([-np.sin(phi), np.cos(phi)])
        middle = outward * (part.radius_mm + part.active_w_mm) + along * part.shift_mm
        half = along * (part.edges_u[-1] - part.edges_u[0]) / 2
        lines.append(np.stack([middle - half, middle + half]))
        reach = max(reach, float(np.abs(lines[-1]).max()))
    axes.add_collection(
        LineCollection(lines, array=values, norm=norm, cmap=colours, linewidths=6, capstyle="butt")
    )
    if detector.tubes:
        axes.add_patch(
            Circle((0, 0), detector.tubes[-1].outer_radius_mm, facecolor="#eef0f3", edgecolor="#9aa0a8")
        )
        axes.text(0, 0, "beam", ha="center", va="center", color="#59616c", fontsize="small")
    axes.set(xlim=(-1.12 * reach, 1.12 * reach), ylim=(-1.12 * reach, 1.12 * reach), aspect="equal")
    axes.set_axis_off()


def _against_phi(
    page: Sheet, place: tuple[float, float, float, float], detector: PixelDetector, ladders: Sequence[Ladder]
) -> None:
    """Occupancy over the layer's mean against φ, layers beside each other."""
    left, bottom, width, height = place
    n = len(detector.layers)
    each = (width - 0.25 * (n - 1)) / n
    first = None
    for layer, part in enumerate(detector.layers):
        axes = page.axes(left + layer * (each + 0.25), bottom, each, height, share_y=first)
        own = [q for number, _, q in ladders if number == layer]
        mean = float(np.mean([q.reference for q in own])) or 1.0
        phi = part.first_phi_deg + 360 * np.arange(part.ladders) / part.ladders
        true = np.array([(q.reference, q.reference_error) for q in own]) / mean
        made = np.array([(q.generated, q.generated_error) for q in own]) / mean
        both_points(axes, (phi - 3, *true.T), (phi + 3, *made.T))
        axes.axhline(1, color="#9aa0a8", linewidth=0.7, zorder=0)
        axes.set_title(f"layer {layer + 1}", fontsize="medium")
        axes.set_xlabel("φ of the ladder (°)")
        if first is None:
            axes.set_ylabel("occupancy / mean")
            axes.legend(loc="upper center", ncols=2)
            first = axes
        else:
            axes.tick_params(labelleft=False)
    if first is not None:
        low, high = first.get_ylim()
        first.set_ylim(low, high + 0.3 * (high - low))


def draw_maps(detector: PixelDetector, evaluation: PixelEvaluation, folder: Path) -> list[Drawing]:
    """Mean occupancy over the unrolled layers, in blocks of cells, and its difference by v-segments."""
    from matplotlib.colors import Normalize

    segments = _segments(detector, evaluation)
    limit = _limit(segments)
    heights = [0.26 * layer.ladders for layer in detector.layers]
    width, left, gap, bottom = 3.25, 0.75, 0.15, 1.15
    total = bottom + sum(heights) + 0.35 * len(heights)
    with sheet(left + 3 * width + 2 * gap + 0.15, total) as page:
        top = total
        for i, height in enumerate(heights):
            top -= height + 0.35
            maps = [unrolled(detector, i, evaluation.maps[role]) for role in ("reference", "generated")]
            both = np.concatenate([m.ravel() for m in maps])
            norm = Normalize(0, float(np.quantile(both, 0.995)) or 1.0, clip=True)
            panels = (
                (REFERENCE_NAME, maps[0], norm, "viridis"),
                (GENERATED_NAME, maps[1], norm, "viridis"),
                (
                    "difference",
                    unrolled(detector, i, segments),
                    Normalize(-limit, limit, clip=True),
                    DIFFERENCES,
                ),
            )
            for column, (title, values, scale, colours) in enumerate(panels):
                axes = page.axes(left + column * (width + gap), top, width, height)
                axes.imshow(
                    np.ma.masked_invalid(np.asarray(values, dtype=np.float64)),
                    cmap=colours,
                    norm=scale,
                    origin="lower",
                    aspect="auto",
                    interpolation="nearest",
                )
                axes.tick_params(which="both", length=0)
                ladders = detector.layers[i].ladders
                at = (np.arange(ladders) + 0.5) * values.shape[0] / ladders - 0.5
                axes.set_yticks(at, [f"{i + 1}.{k + 1}" for k in range(ladders)] if not column else [])
                axes.set_xticks([])
                reach = f", to {norm.vmax:.2g} %" if column < 2 else ", v-segments"
                axes.set_title(f"layer {i + 1}: {title}{reach}", fontsize="small")
                if i == len(heights) - 1:
                    axes.set_xlabel("backward ← z → forward", loc="center")
        span = 2 * width + gap
        bar = page.axes(left + 0.15 * span, 0.55, 0.7 * span, 0.12)
        page.colour_bar(bar, Normalize(0, 1), "viridis", "occupancy, of the end of each layer’s scale")
        bar = page.axes(left + 2 * (width + gap) + 0.1 * width, 0.55, 0.8 * width, 0.12)
        page.colour_bar(
            bar, Normalize(-limit, limit), DIFFERENCES, f"{GENERATED_NAME} / {REFERENCE_NAME} − 1"
        )
        return [
            page.save(
                folder,
                "occupancy_maps",
                "Mean occupancy of the unrolled layers, and the relative difference in six v-segments.",
                "Occupancy maps of Geant4 and generated events, and their relative difference by v-segments.",
            )
        ]


def _segments(detector: PixelDetector, evaluation: PixelEvaluation) -> Floats:
    """Relative difference of every v-segment, (S, 1, 6)."""
    prefix = "occupancy_segment_"
    found: dict[str, list[float]] = {}
    for name, quantity in evaluation.quantities.items():
        if name.startswith(prefix):
            sensor = name.removeprefix(prefix).rpartition("_")[0]
            found.setdefault(sensor, []).append(quantity.relative)
    return np.array([[found[sensor.name]] for sensor in detector.sensors])
