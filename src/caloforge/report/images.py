"""Mean showers as images: every layer face on, and the whole shower from the side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.mesh import Mesh
from caloforge.report.geometry import LayerCells, layer_cells, split_layers, visible_radius
from caloforge.report.means import MeanShower
from caloforge.report.style import GENERATED_NAME, REFERENCE_NAME, Drawing, figure_style, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

__all__ = [
    "DIFFERENCE_LIMIT",
    "colour_range",
    "draw_layer_images",
    "draw_side_view",
    "relative_difference",
    "significant_difference",
]

Floats = NDArray[np.float64]
LAYERS_A_PAGE = 15
BLOCKS = 3
DIFFERENCE_LIMIT = 0.5
"""Relative differences are drawn up to ±50 % and saturate there."""
SIGNIFICANCE = 2.0
"""Standard errors below which a cell's difference is left white."""


def relative_difference(reference: Floats, generated: Floats) -> Floats:
    """(generated − reference) / reference; NaN where both are empty, +inf where only the reference is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (generated - reference) / reference


def significant_difference(reference: MeanShower, generated: MeanShower) -> Floats:
    """Relative difference of every voxel's mean, (V,); 0 where it is below `SIGNIFICANCE` standard errors.

    Without this, cells that hardly any shower reaches would fill the images with noise.
    """
    difference = relative_difference(reference.mean, generated.mean)
    error = np.hypot(reference.error, generated.error)
    by_chance = np.abs(generated.mean - reference.mean) < SIGNIFICANCE * error
    return np.where(by_chance, 0.0, difference)


def colour_range(reference: Floats, generated: Floats) -> tuple[float, float]:
    """Limits of the logarithmic colour scale shared by both samples, MeV: at most five decades."""
    joint = np.concatenate([reference, generated])
    high = float(joint.max()) if joint.max() > 0 else 1.0
    lowest = float(joint[joint > 0].min()) if (joint > 0).any() else high * 0.1
    return min(max(lowest, high * 1e-5), high * 0.5), high


def _paint(axes: Axes, layer: LayerCells, cells: Floats, norm: Normalize, cmap: str, half: float) -> None:
    x, y, _ = layer.outline()
    values = np.ma.masked_invalid(layer.values(cells))
    if cmap == "viridis":
        values = np.ma.masked_less_equal(values, 0)
    axes.pcolormesh(x, y, values, norm=norm, cmap=cmap, rasterized=True)
    axes.set(xlim=(-half, half), ylim=(-half, half), aspect="equal", xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_linewidth(0.4)
        spine.set_color("#9aa0a8")


def _colour_bars(figure: Figure, height: float, norms: tuple[Normalize, Normalize], what: str) -> None:
    from matplotlib.cm import ScalarMappable

    for left, norm, cmap, label in (
        (0.06, norms[0], "viridis", f"mean energy per {what} (MeV)"),
        (0.56, norms[1], "RdBu_r", f"({GENERATED_NAME} − {REFERENCE_NAME}) / {REFERENCE_NAME}"),
    ):
        axes = figure.add_axes((left, 0.5 / height, 0.38, 0.12 / height))
        extend = "neither" if cmap == "viridis" else "both"
        bar = figure.colorbar(
            ScalarMappable(norm, cmap), cax=axes, orientation="horizontal", extend=extend, label=label
        )
        bar.ax.tick_params(direction="out", top=False, which="both")
        bar.ax.xaxis.label.set_horizontalalignment("center")
        bar.ax.xaxis.label.set_x(0.5)


def draw_layer_images(
    mesh: Mesh, reference: MeanShower, generated: MeanShower, folder: Path
) -> list[Drawing]:
    """Pages of the mean shower, layer by layer: Geant4, generated and their relative difference."""
    from matplotlib.colors import LogNorm, Normalize

    layers = layer_cells(mesh)
    offsets = mesh.layer_offsets
    norms = (
        LogNorm(*colour_range(reference.mean, generated.mean), clip=True),
        Normalize(-DIFFERENCE_LIMIT, DIFFERENCE_LIMIT, clip=True),
    )
    half = visible_radius(layers, split_layers(mesh, reference.mean))
    difference = significant_difference(reference, generated)
    drawings = []
    pages = [range(i, min(i + LAYERS_A_PAGE, len(layers))) for i in range(0, len(layers), LAYERS_A_PAGE)]
    for page, shown in enumerate(pages, start=1):
        blocks = min(BLOCKS, len(shown))
        rows = -(-len(shown) // blocks)
        cell = 1.13 if blocks == BLOCKS else 3.4 / blocks
        height = 0.34 + rows * (cell + 0.24) + 0.8
        width = blocks * 3 * cell + (blocks - 1) * 0.25 + 0.4
        with figure_style(small=True):
            figure = new_figure(width, height)
            for k, i in enumerate(shown):
                row, block = divmod(k, blocks)
                for column, cells in enumerate((reference.mean, generated.mean, None)):
                    left = 0.2 + block * (3 * cell + 0.25) + column * cell
                    bottom = height - 0.34 - (row + 1) * (cell + 0.24) + 0.05
                    axes = figure.add_axes(
                        (left / width, bottom / height, (cell - 0.04) / width, (cell - 0.04) / height)
                    )
                    cut = slice(offsets[i], offsets[i + 1])
                    if cells is not None:
                        _paint(axes, layers[i], cells[cut], norms[0], "viridis", half)
                    else:
                        _paint(axes, layers[i], difference[cut], norms[1], "RdBu_r", half)
                    if column == 0:
                        axes.set_title(f"layer {layers[i].number}", pad=2.5)
                    if row == 0:
                        name = (REFERENCE_NAME, GENERATED_NAME, "difference")[column]
                        where = ((left + cell / 2) / width, 1 - 0.2 / height)
                        figure.text(*where, name, ha="center", va="center", color="#4a4f57", style="italic")
            _colour_bars(figure, height, norms, "cell")
            numbers = f"{layers[shown[0]].number} to {layers[shown[-1]].number}"
            drawings.append(
                save(
                    figure,
                    folder,
                    f"mean_shower_layers_{page}",
                    f"Mean shower in layers {numbers}, within ±{half:.3g} mm of the axis; "
                    f"differences below {SIGNIFICANCE:g} standard errors are left white.",
                    f"Mean energy of every cell in layers {numbers}: Geant4, generated, relative difference.",
                )
            )
    return drawings


def _side_map(layers: list[LayerCells], parts: list[Floats], bins: Floats) -> Floats:
    """Energy per mm by layer and transverse bin, (Z, B), summed over the other axis."""
    rows = []
    for layer, cells in zip(layers, parts, strict=True):
        profile = cells.reshape(layer.shape).sum(axis=0)
        share = np.interp(bins, layer.b, np.concatenate([[0.0], np.cumsum(profile)]))
        rows.append(np.diff(share) / np.diff(bins))
    return np.array(rows)


def draw_side_view(mesh: Mesh, reference: MeanShower, generated: MeanShower, folder: Path) -> Drawing | None:
    """The mean shower from the side, depth against radius (or x): both samples and their difference.

    None where the mesh has a single layer.
    """
    from matplotlib.colors import LogNorm, Normalize

    layers = layer_cells(mesh)
    if len(layers) < 2:
        return None
    split = [split_layers(mesh, means) for means in (reference.mean, generated.mean)]
    half = visible_radius(layers, split[0])
    bins = np.unique(np.concatenate([layer.b for layer in layers]))
    bins = bins[np.abs(bins) <= half * (1 + 1e-9)]
    maps = [_side_map(layers, parts, bins) for parts in split]
    known = all(layer.z is not None for layer in layers)
    depth = np.arange(len(layers) + 1.0)
    if known:
        ends = [layer.z for layer in layers if layer.z is not None]
        depth = np.array([end[0] for end in ends] + [ends[-1][1]], dtype=np.float64)
    norm = LogNorm(*colour_range(maps[0].ravel(), maps[1].ravel()), clip=True)
    across = "r (mm)" if layers[0].polar else "x (mm)"
    along = "depth z (mm)" if known else "layer"
    limits = Normalize(-DIFFERENCE_LIMIT, DIFFERENCE_LIMIT, clip=True)
    with figure_style():
        height = 4.2
        figure = new_figure(10.5, height)
        grid = figure.add_gridspec(
            1, 3, left=0.065, right=0.985, wspace=0.12, bottom=1.5 / height, top=1 - 0.35 / height
        )
        titles = (REFERENCE_NAME, GENERATED_NAME, "relative difference")
        for k, (title, cells) in enumerate(
            zip(titles, (*maps, relative_difference(maps[0], maps[1])), strict=True)
        ):
            axes = figure.add_subplot(grid[k])
            values = np.ma.masked_invalid(cells) if k == 2 else np.ma.masked_less_equal(cells, 0)
            axes.pcolormesh(
                depth,
                bins,
                values.T,
                norm=limits if k == 2 else norm,
                cmap="RdBu_r" if k == 2 else "viridis",
                rasterized=True,
            )
            axes.set_title(title)
            axes.set_xlabel(along)
            if not known:
                axes.set_xticks(np.arange(len(layers)) + 0.5, [str(la.number) for la in layers])
                axes.tick_params(which="minor", bottom=False, top=False)
            if k == 0:
                axes.set_ylabel(across)
            else:
                axes.tick_params(labelleft=False)
        _colour_bars(figure, height, (norm, limits), "layer and mm")
        return save(
            figure,
            folder,
            "mean_shower_side",
            f"Mean shower seen from the side, summed over {'φ' if layers[0].polar else 'y'}.",
            f"Mean energy against depth and {across}: Geant4, generated and relative difference.",
        )
