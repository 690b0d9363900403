"""Distributions and mean profiles of both samples. Legend: ``B`` bins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.evaluation.results.numbers import Separation

__all__ = ["Histogram", "Profile"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Histogram:
    """One feature of both samples in the same bins.

    Attributes:
        name: unique name, ``group`` or ``group_<layer number>`` (``ec_eta_12``).
        group: what is filled: ``e_ratio``, ``e_layer``, ``sparsity``, ``ec_eta``, ``cell_energy``, …
        layer: the detector's number of the layer, or None.
        label: axis label in words, with the unit in square brackets.
        edges: bin edges, (B + 1,).
        reference, generated: entries in each bin, (B,).
        reference_error, generated_error: their statistical errors (one standard deviation), (B,).
        reference_outside, generated_outside: fractions of entries below and above the edges.
        separation: separation power of the entries in range and its floor.
        log_x, log_y: whether an axis is best drawn logarithmically.
    """

    name: str
    group: str
    layer: int | None
    label: str
    edges: Floats
    reference: Floats
    generated: Floats
    reference_error: Floats
    generated_error: Floats
    reference_outside: tuple[float, float]
    generated_outside: tuple[float, float]
    separation: Separation
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True, eq=False)
class Profile:
    """Mean energy of a shower along one direction.

    Attributes:
        name: ``longitudinal`` (one bin a layer) or ``radial``.
        label, position_label: labels of the value and of the position, with units.
        positions: layer numbers (or places, where numbers have gaps) or bin centres (mm), (B,).
        edges: bin edges, (B + 1,); positions ∓ ½ or mm.
        reference, generated: mean energy in the bin, MeV, (B,).
        reference_error, generated_error: standard errors of the means, MeV, (B,).
    """

    name: str
    label: str
    position_label: str
    positions: Floats
    edges: Floats
    reference: Floats
    generated: Floats
    reference_error: Floats
    generated_error: Floats
