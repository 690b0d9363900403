"""Distributions and mean profiles of both samples. Legend: ``B`` bins."""

from __future__ import annotations

from caloforge.evaluation.results.base import Floats, Number, Result
from caloforge.evaluation.results.numbers import Separation

__all__ = ["Histogram", "Profile"]


class Histogram(Result):
    """One feature of both samples in the same bins."""

    name: str
    """Unique name, ``group`` or ``group_<layer number>`` (``ec_eta_12``)."""
    group: str
    """What is filled: ``e_ratio``, ``e_layer``, ``sparsity``, ``ec_eta``, ``cell_energy``, …"""
    layer: int | None
    """The detector's number of the layer, or None."""
    label: str
    """Axis label in words, with the unit in square brackets."""
    edges: Floats
    """Bin edges, (B + 1,)."""
    reference: Floats
    """Entries in each bin, (B,)."""
    generated: Floats
    reference_error: Floats
    """Statistical errors of the entries (one standard deviation), (B,)."""
    generated_error: Floats
    reference_outside: tuple[Number, Number]
    """Fractions of entries below and above the edges."""
    generated_outside: tuple[Number, Number]
    separation: Separation
    """Separation power of the entries in range and its floor."""
    log_x: bool = False
    """Whether the axis is best drawn logarithmically."""
    log_y: bool = False


class Profile(Result):
    """Mean of a quantity along one direction of the shower, or against a threshold."""

    name: str
    """``longitudinal`` (one bin a layer), ``radial`` or ``sparsity_by_threshold``."""
    label: str
    """Label of the value with its unit."""
    position_label: str
    """Label of the position with its unit."""
    positions: Floats
    """Layer numbers (or places, where numbers have gaps) or bin centres (mm), (B,)."""
    edges: Floats
    """Bin edges, (B + 1,); positions ∓ ½ or mm."""
    reference: Floats
    """Means, of energies in MeV, (B,)."""
    generated: Floats
    reference_error: Floats
    """Standard errors of the means, (B,)."""
    generated_error: Floats
