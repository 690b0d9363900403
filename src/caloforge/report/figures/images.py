"""Mean showers as images: every layer face on, and the whole shower from the side."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from caloforge.detector import Mesh
from caloforge.report.figures.marks import Floats
from caloforge.report.figures.sheet import Drawing, Sheet, panel_sheet, sheet
from caloforge.report.figures.style import GENERATED_NAME, REFERENCE_NAME
from caloforge.report.geometry import LayerCells, layer_cells, split_layers, visible_radius
from caloforge.report.mean_shower import (
    DIFFERENCE_LIMIT,
    SIGNIFICANCE,
    MeanShower,
    colour_range,
    relative_difference,
    significant_difference,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize

    Column = tuple[str, list[Floats], Normalize, str]

__all__ = ["draw_layer_images", "draw_side_view"]

LAYERS_A_PAGE = 15
BLOCKS = 3
ENERGIES, DIFFERENCES = "viridis", "RdBu_r"


def _scales(reference: Floats, generated: Floats) -> tuple[Normalize, Normalize]:
    """Of the energies and of their relative differences."""
    from matplotlib.colors import LogNorm, Normalize

    return (
        LogNorm(*colour_range(reference, generated), clip=True),
        Normalize(-DIFFERENCE_LIMIT, DIFFERENCE_LIMIT, clip=True),
    )


def _paint(axes: Axes, x: Floats, y: Floats, cells: Floats, norm: Normalize, colours: str) -> None:
    values = np.ma.masked_invalid(cells)
    if colours == ENERGIES:
        values = np.ma.masked_less_equal(values, 0)
    axes.pcolormesh(x, y, values, norm=norm, cmap=colours, rasterized=True)


def _colour_bars(page: Sheet, norms: tuple[Normalize, Normalize], what: str) -> None:
    width = 0.38 * page.width
    bar = page.axes(0.06 * page.width, 0.5, width, 0.12)
    page.colour_bar(bar, norms[0], ENERGIES, f"mean energy per {what} (MeV)")
    bar = page.axes(0.56 * page.width, 0.5, width, 0.12)
    label = f"({GENERATED_NAME} − {REFERENCE_NAME}) / {REFERENCE_NAME}"
    page.colour_bar(bar, norms[1], DIFFERENCES, label, extend="both")


def draw_layer_images(
    mesh: Mesh, reference: MeanShower, generated: MeanShower, folder: Path
) -> list[Drawing]:
    """Pages of the mean shower, layer by layer: Geant4, generated and their relative difference."""
    layers = layer_cells(mesh)
    norms = _scales(reference.mean, generated.mean)
    difference = significant_difference(reference, generated)
    columns = (
        (REFERENCE_NAME, split_layers(mesh, reference.mean), norms[0], ENERGIES),
        (GENERATED_NAME, split_layers(mesh, generated.mean), norms[0], ENERGIES),
        ("difference", split_layers(mesh, difference), norms[1], DIFFERENCES),
    )
    half = visible_radius(layers, columns[0][1])
    drawings = []
    for start in range(0, len(layers), LAYERS_A_PAGE):
        shown = range(start, min(start + LAYERS_A_PAGE, len(layers)))
        drawings.append(_draw_layers(layers, shown, columns, half, folder))
        gc.collect()  # a figure is a cycle of many parts; the next page need not stand beside it
    return drawings


def _draw_layers(
    layers: Sequence[LayerCells], shown: range, columns: Sequence[Column], half: float, folder: Path
) -> Drawing:
    """One page with the layers ``shown``, each within ±``half`` mm of the axis."""
    blocks = min(BLOCKS, len(shown))
    rows = -(-len(shown) // blocks)
    side = 1.13 if blocks == BLOCKS else 3.4 / blocks
    height = 0.34 + rows * (side + 0.24) + 0.8
    with sheet(blocks * 3 * side + (blocks - 1) * 0.25 + 0.4, height, small=True) as page:
        for k, i in enumerate(shown):
            row, block = divmod(k, blocks)
            bottom = height - 0.34 - (row + 1) * (side + 0.24) + 0.05
            x, y, _ = layers[i].outline()
            for column, (name, cells, norm, colours) in enumerate(columns):
                left = 0.2 + block * (3 * side + 0.25) + column * side
                axes = page.axes(left, bottom, side - 0.04, side - 0.04)
                _paint(axes, x, y, layers[i].values(cells[i]), norm, colours)
                axes.set(xlim=(-half, half), ylim=(-half, half), aspect="equal", xticks=[], yticks=[])
                for spine in axes.spines.values():
                    spine.set_linewidth(0.4)
                    spine.set_color("#9aa0a8")
                if column == 0:
                    axes.set_title(f"layer {layers[i].number}", pad=2.5)
                if row == 0:
                    centre = ((left + side / 2) / page.width, 1 - 0.2 / height)
                    text = page.figure.text(*centre, name, ha="center", va="center")
                    text.set(color="#4a4f57", style="italic")
        _colour_bars(page, (columns[0][2], columns[2][2]), "cell")
        numbers = f"{layers[shown[0]].number} to {layers[shown[-1]].number}"
        return page.save(
            folder,
            f"mean_shower_layers_{1 + shown[0] // LAYERS_A_PAGE}",
            f"Mean shower in layers {numbers}, within ±{half:.3g} mm of the axis; "
            f"differences below {SIGNIFICANCE:g} standard errors are left white.",
            f"Mean energy of every cell in layers {numbers}: Geant4, generated, relative difference.",
        )


def _side_map(layers: Sequence[LayerCells], parts: Sequence[Floats], bins: Floats) -> Floats:
    """Energy per mm by transverse bin and layer, (B, Z), summed over the other axis."""
    columns = []
    for layer, cells in zip(layers, parts, strict=True):
        profile = cells.reshape(layer.shape).sum(axis=0)
        reached = np.interp(bins, layer.b, np.concatenate([[0.0], np.cumsum(profile)]))
        columns.append(np.diff(reached) / np.diff(bins))
    return np.stack(columns, axis=1)


def draw_side_view(mesh: Mesh, reference: MeanShower, generated: MeanShower, folder: Path) -> list[Drawing]:
    """The mean shower from the side, depth against radius (or x): both samples and their difference.

    Nothing where the mesh has a single layer.
    """
    layers = layer_cells(mesh)
    if len(layers) < 2:
        return []
    split = [split_layers(mesh, means) for means in (reference.mean, generated.mean)]
    half = visible_radius(layers, split[0])
    bins = np.unique(np.concatenate([layer.b for layer in layers]))
    bins = bins[np.abs(bins) <= half * (1 + 1e-9)]
    expected, found = (_side_map(layers, parts, bins) for parts in split)
    depths = [layer.z for layer in layers if layer.z is not None]
    known = len(depths) == len(layers)
    edges = np.arange(len(layers) + 1.0)
    if known:
        edges = np.array([z[0] for z in depths] + [depths[-1][1]], dtype=np.float64)
    norms = _scales(expected.ravel(), found.ravel())
    across = "r (mm)" if layers[0].polar else "x (mm)"
    images = (
        (REFERENCE_NAME, expected, norms[0], ENERGIES),
        (GENERATED_NAME, found, norms[0], ENERGIES),
        ("relative difference", relative_difference(expected, found), norms[1], DIFFERENCES),
    )
    with panel_sheet(3, 3, panel=(3.5, 2.35), margins=(0.68, 0.16, 0.35, 1.5), gaps=(0.12, 0.0)) as page:
        for k, (title, cells, norm, colours) in enumerate(images):
            axes = page.panel(k)
            _paint(axes, edges, bins, cells, norm, colours)
            axes.set_title(title)
            axes.set_xlabel("depth z (mm)" if known else "layer")
            if not known:
                axes.set_xticks(np.arange(len(layers)) + 0.5, [str(la.number) for la in layers])
                axes.tick_params(which="minor", bottom=False, top=False)
            if k == 0:
                axes.set_ylabel(across)
            else:
                axes.tick_params(labelleft=False)
        _colour_bars(page, norms, "layer and mm")
        return [
            page.save(
                folder,
                "mean_shower_side",
                f"Mean shower seen from the side, summed over {'φ' if layers[0].polar else 'y'}.",
                f"Mean energy against depth and {across}: Geant4, generated and relative difference.",
            )
        ]
