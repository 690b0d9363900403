"""Mean showers as images: every layer face on, and the whole shower from the side."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from caloforge.detector import Mesh
from caloforge.report.figures.marks import Floats
from caloforge.report.figures.sheet import SMALL, Drawing, Sheet, sheet
from caloforge.report.figures.style import GENERATED_NAME, REFERENCE_NAME
from caloforge.report.geometry import LayerCells, layer_cells, split_layers, visible_radius
from caloforge.report.mean_shower import (
    DIFFERENCE_LIMIT,
    MeanShower,
    colour_range,
    relative_difference,
    significant_difference,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize

    Column = tuple[str, list[Floats], Normalize, str]

__all__ = ["draw_layer_images", "draw_side_views"]

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
            f"Layers {numbers}, within ±{half:.3g} mm of the axis.",
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


def draw_side_views(
    mesh: Mesh, reference: Floats, generated: Mapping[str, Floats], folder: Path
) -> list[Drawing]:
    """Mean showers from the side, depth against radius (or x), means (V,) MeV: small figures, one a panel.

    Geant4, a generated one, and the relative difference; of several generated ones only the differences.
    Nothing where the mesh has a single layer.
    """
    layers = layer_cells(mesh)
    if len(layers) < 2:
        return []
    split = {name: split_layers(mesh, means) for name, means in generated.items()}
    true = split_layers(mesh, reference)
    half = visible_radius(layers, true)
    bins = np.unique(np.concatenate([layer.b for layer in layers]))
    bins = bins[np.abs(bins) <= half * (1 + 1e-9)]
    expected = _side_map(layers, true, bins)
    found = {name: _side_map(layers, parts, bins) for name, parts in split.items()}
    energies, differences = _scales(expected.ravel(), np.concatenate([m.ravel() for m in found.values()]))
    several = len(found) > 1
    images = [(REFERENCE_NAME, expected, energies, ENERGIES)]
    if not several:
        images += [(name, cells, energies, ENERGIES) for name, cells in found.items()]
    images += [
        (f"{name} / {REFERENCE_NAME} − 1", relative_difference(expected, cells), differences, DIFFERENCES)
        for name, cells in found.items()
    ]
    return [
        _draw_side(f"mean_shower_{k}", layers, bins, image, folder) for k, image in enumerate(images, start=1)
    ]


def _draw_side(
    name: str,
    layers: Sequence[LayerCells],
    bins: Floats,
    image: tuple[str, Floats, Normalize, str],
    folder: Path,
) -> Drawing:
    """One of the small figures: title, values (B, Z), their scale and colours."""
    title, cells, norm, colours = image
    depths = [layer.z for layer in layers if layer.z is not None]
    known = len(depths) == len(layers)
    edges = np.arange(len(layers) + 1.0)
    if known:
        edges = np.array([z[0] for z in depths] + [depths[-1][1]], dtype=np.float64)
    across = "r (mm)" if layers[0].polar else "x (mm)"
    with sheet(SMALL, 2.05, small=True) as page:
        axes = page.axes(0.5, 0.88, SMALL - 0.6, 0.95)
        _paint(axes, edges, bins, cells, norm, colours)
        axes.set_title(title, fontweight="bold", pad=3)
        axes.set_xlabel("depth z (mm)" if known else "layer", labelpad=1)
        axes.set_ylabel(across, labelpad=2)
        if not known:
            axes.set_xticks(np.arange(len(layers)) + 0.5, [str(la.number) for la in layers])
        bar = page.axes(0.5, 0.4, SMALL - 0.6, 0.08)
        energies = colours == ENERGIES
        label = "mean energy (MeV per layer and mm)" if energies else "relative difference"
        page.colour_bar(bar, norm, colours, label, extend="neither" if energies else "both")
        return page.save(
            folder,
            name,
            f"Mean shower: {title}.",
            f"{title}: mean energy of the shower against depth and {across}.",
        )
