"""Bin edges of every histogram: those of the CaloChallenge, and natural ranges for other meshes.

Published: response 100 bins in 0.5-1.5; energies per layer 40 logarithmic edges and cell energies 50, from
the threshold to the reference's largest; sparsity 20 bins in 0-1; centres and widths 100 bins, whose ranges
are `lateral_ranges`. On other meshes the ranges of data sets 2 and 3 are scaled by the distance of the mesh's
farthest cell centre from the axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.detector import CylinderMesh, Mesh, calochallenge_mesh

__all__ = ["LateralRanges", "lateral_ranges", "linear_edges", "log_edges"]

Floats = NDArray[np.float64]

SMALLEST_SHARE = 1e-8
"""Logarithmic axes span at most eight decades below the reference's largest energy."""


@dataclass(frozen=True)
class LateralRanges:
    """Ranges of one layer in mm: centres in the plane ±``centre``, all else from 0."""

    centre: float
    width: float
    centre_r: float
    width_r: float


_SETS_2_AND_3 = LateralRanges(centre=30.0, width=30.0, centre_r=42.0, width_r=20.0)
_OUTER_EDGE = 41.85
_FARTHEST_CENTRE = 39.525


def lateral_ranges(mesh: Mesh) -> list[LateralRanges]:
    """Ranges of centres and widths of each layer, (Z,)."""
    if isinstance(mesh, CylinderMesh) and abs(mesh.r_edges[-1] - _OUTER_EDGE) < 1e-6:
        return [_SETS_2_AND_3] * mesh.n_layers
    if mesh in (calochallenge_mesh("1-photons"), calochallenge_mesh("1-pions")):
        return [_set_1(number) for number in mesh.layer_numbers]
    centres = mesh.centres()
    farthest = float(np.hypot(centres["x"], centres["y"]).max())
    unit = _two_digits(farthest / _FARTHEST_CENTRE)
    return [LateralRanges(30 * unit, 30 * unit, 42 * unit, 20 * unit)] * mesh.n_layers


def _set_1(layer: int) -> LateralRanges:
    return LateralRanges(
        centre=500.0 if layer in (12, 13) else 100.0,
        width=400.0 if layer in (12, 13) else 100.0,
        centre_r=1500.0 if layer in (12, 13, 14) else 500.0,
        width_r=1500.0 if layer in (12, 13, 14) else 500.0,
    )


def _two_digits(value: float) -> float:
    """Rounded up to two significant digits, so that edges are readable; 1 for 0."""
    if value <= 0:
        return 1.0
    step = 10.0 ** (np.floor(np.log10(value)) - 1)
    return float(np.ceil(value / step - 1e-9) * step)


def linear_edges(low: float, high: float, bins: int) -> Floats:
    """Equal bins; the last edge is moved up by one rounding step so that ``high`` itself is inside."""
    edges = np.linspace(low, high, bins + 1)
    edges[-1] = np.nextafter(edges[-1], np.inf)
    return edges


def log_edges(threshold: float, largest: float, n_edges: int) -> Floats:
    """``n_edges`` logarithmic edges from threshold to largest, both inside; a decade where they agree."""
    low = max(threshold, largest * SMALLEST_SHARE, 1e-12)
    high = largest if largest > low else 10 * low
    edges = np.geomspace(low, high, n_edges)
    edges[0], edges[-1] = low, np.nextafter(high, np.inf)
    return edges
