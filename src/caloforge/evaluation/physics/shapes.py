"""Where along its depth a shower starts, peaks and ends, from the energies per layer alone.

Legend: ``N`` showers, ``Z`` layers. Depths are mm where the mesh knows them, else they count layers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caloforge.detector import Mesh
from caloforge.evaluation.features import Features

__all__ = ["END", "LEAST_LAYERS", "START", "depth_at_share", "layer_depths", "longitudinal_observables"]

Floats = NDArray[np.float64]

START, END = 0.05, 0.95
"""Shares of a shower's energy in front of its start and of its end."""
LEAST_LAYERS = 3
"""With fewer layers a shower has no shape along its depth."""
BLOCK = 20_000
"""Showers treated at once, which bounds the memory."""
SMOOTHED_FROM = 8
"""From so many layers on the profile is smoothed before its maximum is sought."""


def layer_depths(mesh: Mesh) -> tuple[Floats, str]:
    """Front and back of each layer, (Z, 2), and their unit.

    The unit is ``mm`` where the mesh knows all its depths. Else it is ``layers``: the layer in place i,
    counted from 0 whatever the detector's own number, reaches from i − ½ to i + ½.
    """
    if not np.isnan(mesh.layer_depths).any():
        return mesh.layer_depths, "mm"
    places = np.arange(mesh.n_layers, dtype=np.float64)
    return np.stack([places - 0.5, places + 0.5], axis=1), "layers"


def longitudinal_observables(features: Features) -> dict[str, Floats]:
    """Start, maximum and length of each shower, each (N,), NaN for showers without energy.

    * ``shower_start``: depth in front of which 5 % of the shower's energy lies; energy is taken to be spread
      evenly within a layer.
    * ``shower_length``: from there to the depth in front of which 95 % lies, so that it holds 90 %.
    * ``shower_max``: depth of the largest energy per depth; of the profile smoothed with (¼, ½, ¼) where
      there are 8 layers or more, since a single layer fluctuates, and between layers by the parabola through
      the largest and its two neighbours. Where the first or the last layer is the largest, its middle.

    Empty where the mesh has fewer than three layers, as an image has.
    """
    mesh = features.mesh
    if mesh.n_layers < LEAST_LAYERS:
        return {}
    depths, _ = layer_depths(mesh)
    start, end, top = np.empty((3, len(features)))
    for first in range(0, len(features), BLOCK):
        rows = slice(first, first + BLOCK)
        energies = features.e_layer[rows].astype(np.float64)
        start[rows] = depth_at_share(energies, depths, START)
        end[rows] = depth_at_share(energies, depths, END)
        top[rows] = _maximum(energies, depths)
    return {"shower_start": start, "shower_max": top, "shower_length": end - start}


def depth_at_share(energies: Floats, edges: Floats, share: float) -> Floats:
    """Where the cumulated energy first reaches a share of the whole, (N,); NaN without energy.

    Args:
        energies: in each bin, (N, B).
        edges: low and high edge of each bin, in order, (B, 2); there may be gaps, which hold no energy.
        share: in (0, 1].
    """
    cumulated = np.cumsum(energies, axis=1)
    total = cumulated[:, -1]
    wanted = share * total
    rows = np.arange(len(energies))
    place = np.argmax(cumulated >= wanted[:, None], axis=1)
    inside = energies[rows, place]
    before = cumulated[rows, place] - inside
    with np.errstate(invalid="ignore", divide="ignore"):
        part = (wanted - before) / inside  # 0 / 0 where there is no energy at all
    return np.asarray(edges[place, 0] + part * (edges[place, 1] - edges[place, 0]), dtype=np.float64)


def _maximum(energies: Floats, depths: Floats) -> Floats:
    """Depth of the largest energy per depth, (N,)."""
    density = energies / (depths[:, 1] - depths[:, 0])
    middle = depths.mean(axis=1)
    if len(depths) >= SMOOTHED_FROM:
        padded = np.pad(density, ((0, 0), (1, 1)), mode="edge")
        density = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    top = np.argmax(density, axis=1)
    inner = np.clip(top, 1, len(depths) - 2)
    rows = np.arange(len(density))
    (x0, y0), (x1, y1), (x2, y2) = ((middle[inner + i], density[rows, inner + i]) for i in (-1, 0, 1))
    # the vertex of the parabola through three points, measured from the middle one
    left, right = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    curvature = left - right
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = (left * (x2 - x1) + right * (x1 - x0)) / (x2 - x0)
        vertex = x1 + slope * (x2 - x0) / (2 * curvature)
    found = np.where((top == inner) & (curvature > 0), vertex, middle[top])
    return np.where(energies.sum(axis=1) > 0, found, np.nan)
