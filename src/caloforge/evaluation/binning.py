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

__all__ = [
    "LateralRanges",
    "challenge_set",
    "default_threshold",
    "lateral_ranges",
    "linear_edges",
    "log_edges",
]

Floats = NDArray[np.float64]

SMALLEST_SHARE = 1e-8
"""Logarithmic axes span at most eight decades below the reference's largest energy."""
SETS_2_AND_3_THRESHOLD = 0.5e-3 / 0.033
"""0.5 keV over the sampling fraction, MeV."""


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
    if challenge_set(mesh) in ("1-photons", "1-pions"):
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
    """Edges of equal bins, (bins + 1,); the last bin holds its upper edge."""
    return np.linspace(low, high, bins + 1)


def log_edges(threshold: float, largest: float, n_edges: int) -> Floats:
    """``n_edges`` logarithmic edges from threshold to largest, both inside; a decade where they agree."""
    low = max(threshold, 1e-12)
    return np.geomspace(low, largest if largest > low else 10 * low, n_edges)


def default_threshold(mesh: Mesh, smallest: float, largest: float = 0.0) -> float:
    """Lower edge of the energy histograms where none is asked for, MeV.

    On the meshes of the CaloChallenge it is the challenge's: 1 MeV in data set 1, 0.5 keV / 0.033 in sets 2
    and 3, below which its showers have no cells. On other meshes it is the reference's smallest cell energy,
    but at most eight decades below its largest.

    A cell below the threshold is left out of the histogram of cell energies and a layer below it out of that
    of its energy; both are counted as below the range. They count everywhere else: in sums, sparsity, centres
    and widths a cell is hit where its energy is above zero.

    Args:
        mesh: the cells; their sizes must be the challenge's, not only their number.
        smallest: the reference's smallest cell energy above zero, MeV.
        largest: the reference's largest cell energy, MeV.
    """
    name = challenge_set(mesh)
    if name is not None:
        return 1.0 if name.startswith("1") else SETS_2_AND_3_THRESHOLD
    return max(smallest, largest * SMALLEST_SHARE)


def challenge_set(mesh: Mesh) -> str | None:
    """The data set of the challenge whose cells these are, depths aside; None where it is none of them."""
    for name in ("1-photons", "1-pions", "2", "3"):
        known = calochallenge_mesh(name)
        if np.array_equal(known.layer_sizes, mesh.layer_sizes) and known.layer_numbers == mesh.layer_numbers:
            ours, theirs = known.centres(), mesh.centres()
            if all(k in theirs and np.allclose(ours[k], theirs[k], rtol=0, atol=1e-6) for k in ("r", "phi")):
                return name
    return None
