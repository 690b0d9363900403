"""What validators of a simulation ask for, as plain data.

Legend: ``B`` bins or slices, ``K`` rows of a correlation matrix.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from caloforge.evaluation.results.numbers import Comparison, Estimate, Separation

__all__ = [
    "CellRange",
    "Conservation",
    "Correlation",
    "Localisation",
    "Memorisation",
    "ResolutionFit",
    "ResponseCurve",
    "Shift",
    "Slice",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ResolutionFit:
    """σ(E)/E = a/√E ⊕ b/E ⊕ c (⊕: added in quadrature) with E in GeV.

    Attributes:
        stochastic, noise, constant: a (√GeV), b (GeV) and c; not negative. NaN where they cannot be fitted.
        stochastic_error, noise_error, constant_error: one standard deviation; NaN at a bound.
        chi2, ndf: quality of the fit.
    """

    stochastic: float
    noise: float
    constant: float
    stochastic_error: float
    noise_error: float
    constant_error: float
    chi2: float
    ndf: int


@dataclass(frozen=True, eq=False)
class ResponseCurve:
    """Response ⟨ΣE/E_inc⟩ and resolution σ(ΣE/E_inc)/⟨ΣE/E_inc⟩ of both samples in bins of a condition.

    Attributes:
        condition: ``energy``, ``theta``, ``phi`` or ``detector``.
        label: axis label with the unit.
        edges: bin edges, (B + 1,), or empty where the bins are discrete values.
        positions: mean of the condition in each bin, or the discrete value, or 0 … B − 1 for names, (B,).
        names: of the bins where they have names (detectors), else empty.
        reference_count, generated_count: showers in each bin, (B,).
        reference_response, …_error: mean and its standard error, (B,); NaN for fewer than two showers.
        reference_resolution, …_error: relative spread and its error, (B,).
        linearity: |generated / reference response − 1| in the bin where it is largest in units of its
            scatter, and its floor.
        fits: ``reference`` and ``generated`` where the condition is the energy and spans a range.
    """

    condition: str
    label: str
    edges: Floats
    positions: Floats
    names: tuple[str, ...]
    reference_count: Floats
    generated_count: Floats
    reference_response: Floats
    generated_response: Floats
    reference_response_error: Floats
    generated_response_error: Floats
    reference_resolution: Floats
    generated_resolution: Floats
    reference_resolution_error: Floats
    generated_resolution_error: Floats
    linearity: Estimate
    fits: dict[str, ResolutionFit] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Correlation:
    """Correlation matrices (Pearson) of the same quantities in both samples, at fixed incident energy.

    Attributes:
        name: ``layers`` (energies per layer / E_inc) or ``cells`` (energies of chosen cells / E_inc).
        labels: of the rows, (K,); for cells ``z/φ/r`` indices.
        reference, generated: (K, K), NaN where a quantity never varies.
        distance: root mean square difference of the off-diagonal elements, and its floor.
    """

    name: str
    labels: tuple[str, ...]
    reference: Floats
    generated: Floats
    distance: Estimate


@dataclass(frozen=True)
class CellRange:
    """The smallest and largest cells above zero of both samples, MeV: do they have the same threshold?

    Attributes:
        reference_smallest, reference_largest, generated_smallest, generated_largest: MeV.
        reference_hits, generated_hits: cells above zero.
        reference_below: cells of the reference below the smallest generated one.
        generated_below: generated cells below the smallest one of the reference.
    """

    reference_smallest: float
    reference_largest: float
    generated_smallest: float
    generated_largest: float
    reference_hits: int
    generated_hits: int
    reference_below: int
    generated_below: int


@dataclass(frozen=True)
class Conservation:
    """Does a generator make energy that the reference never shows?

    Attributes:
        limit: the 99.9 % quantile of ΣE/E_inc of the reference (or its largest where showers are few).
        reference_above, generated_above: fractions of showers above the limit.
        expected_error: one standard deviation of the difference if both had the reference's.
        largest: largest ΣE/E_inc of the generated showers; ``largest_reference`` that of the reference.
        worst: numbers of the generated showers farthest above the limit, at most 10.
        negative_or_empty: generated showers without any energy.
    """

    limit: float
    reference_above: float
    generated_above: float
    expected_error: float
    largest: float
    largest_reference: float
    worst: tuple[int, ...]
    negative_or_empty: int


@dataclass(frozen=True, eq=False)
class Memorisation:
    """Are generated showers nearer to the training showers than independent Geant4 showers are?

    Distances are Euclidean between showers of similar incident energy, in the space that ``space`` names.

    Attributes:
        counts: showers used: ``generated``, ``training``, ``held_out``.
        space: in words.
        edges: bins of nearest-neighbour distances, (B + 1,).
        generated_to_training, generated_to_held_out, held_out_to_training: entries, (B,).
        nearer: share of generated showers whose nearest training shower is nearer than their nearest held-out
            shower, with as many of each; ideal 0.5, and 1 for a copy of the training set.
        copies: generated showers nearer to a training shower than all but 0.1 % of held-out showers are.
        copies_expected: how many of those chance gives.
        rows: the generated showers nearest to a training shower and that shower's number, at most 10.
        verdict: one plain sentence.
    """

    counts: dict[str, int]
    space: str
    edges: Floats
    generated_to_training: Floats
    generated_to_held_out: Floats
    held_out_to_training: Floats
    nearer: Estimate
    copies: int
    copies_expected: float
    rows: tuple[tuple[int, int], ...]
    verdict: str


@dataclass(frozen=True)
class Slice:
    """Metrics of the showers in one bin of a condition.

    Attributes:
        condition: ``energy`` (MeV), ``theta``, ``phi`` (rad), ``detector`` or ``particle``.
        low, high: of the bin, half-open but for the last; NaN for names.
        label: in words, with the unit.
        counts: ``reference`` and ``generated`` showers.
        separation: mean over the layers of each group of features, in the bins of the whole sample.
        response: mean and spread of ΣE/E_inc.
        metrics: ``fpd``, ``kpd`` and ``auc_<classifier>`` (of the whole sample's classifiers, on their
            validation showers in this bin), as far as there are enough showers.
        note: a plain sentence where there are too few showers to say anything.
    """

    condition: str
    low: float
    high: float
    label: str
    counts: dict[str, int]
    separation: dict[str, Separation]
    response: Comparison
    metrics: dict[str, Estimate]
    note: str = ""


@dataclass(frozen=True)
class Shift:
    """One place where the means of both samples differ by more than chance.

    Attributes:
        name: ``layer 10``, ``cell 10/3/2`` (indices z/φ/r or z/y/x, or the voxel's number) or
            ``cells 10/3/2 and 10/4/2`` for the product of two neighbours.
        kind: ``layer``, ``cell`` or ``neighbours``.
        relative, error: (generated − reference) / reference of the mean and one standard deviation.
        z: in standard deviations.
        p_value: two-sided, multiplied by the number of places looked at (Bonferroni), at most 1.
    """

    name: str
    kind: str
    relative: float
    error: float
    z: float
    p_value: float


@dataclass(frozen=True)
class Localisation:
    """Where two samples differ in the mean.

    Attributes:
        shifts: places that differ by more than chance, layers first, then most significant first; at most 20
            of each kind.
        tested: places looked at, by kind.
        found: places that differ by more than chance, by kind.
        shared_showers: share of rows in which both files hold the same shower, judged by the energies of
            their layers; errors and floors assume that there are none.
        exact: where rows are shared: layers whose mean differs at all, by its relative difference.
    """

    shifts: list[Shift]
    tested: dict[str, int]
    found: dict[str, int]
    shared_showers: float
    exact: dict[str, float]
