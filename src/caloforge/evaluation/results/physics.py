"""What validators of a simulation ask for. Legend: ``B`` bins, ``K`` rows of a correlation matrix."""

from __future__ import annotations

from pydantic import Field

from caloforge.evaluation.results.base import Floats, Number, Result
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


class ResolutionFit(Result):
    """σ(E)/E = a/√E ⊕ b/E ⊕ c (⊕: added in quadrature) with E in GeV.

    Not negative; errors are one standard deviation, NaN at a bound.
    """

    stochastic: Number
    """a, √GeV."""
    noise: Number
    """b, GeV."""
    constant: Number
    """c."""
    stochastic_error: Number
    noise_error: Number
    constant_error: Number
    chi2: Number
    ndf: int


class ResponseCurve(Result):
    """Response ⟨ΣE/E_inc⟩ and resolution σ(ΣE/E_inc)/⟨ΣE/E_inc⟩ of both samples in bins of a condition."""

    condition: str
    """``energy``, ``theta``, ``phi`` or ``detector``."""
    label: str
    """Axis label with the unit."""
    edges: Floats
    """Bin edges, (B + 1,), or empty where the bins are discrete values."""
    positions: Floats
    """Mean of the condition in each bin, or the discrete value, or 0 … B − 1 for names, (B,)."""
    names: tuple[str, ...]
    """Of the bins where they have names (detectors), else empty."""
    reference_count: Floats
    """Showers in each bin, (B,)."""
    generated_count: Floats
    reference_response: Floats
    """Mean, (B,); NaN for fewer than two showers."""
    generated_response: Floats
    reference_response_error: Floats
    """Standard error of the mean, (B,)."""
    generated_response_error: Floats
    reference_resolution: Floats
    """Relative spread, (B,)."""
    generated_resolution: Floats
    reference_resolution_error: Floats
    generated_resolution_error: Floats
    linearity: Estimate
    """|generated / reference response − 1| in the bin where it is largest in units of its scatter."""
    fits: dict[str, ResolutionFit] = Field(default_factory=dict)
    """``reference`` and ``generated`` where the condition is the energy and spans a range."""


class Correlation(Result):
    """Correlation matrices (Pearson) of the same quantities in both samples, at fixed incident energy."""

    name: str
    """``layers`` (energies per layer / E_inc) or ``cells`` (energies of chosen cells / E_inc)."""
    labels: tuple[str, ...]
    """Of the rows, (K,); for cells ``z/φ/r`` indices."""
    reference: Floats
    """(K, K), NaN where a quantity never varies."""
    generated: Floats
    distance: Estimate
    """Root mean square difference of the off-diagonal elements, and its floor."""


class CellRange(Result):
    """The smallest and largest cells above zero of both samples, MeV: do they have the same threshold?"""

    reference_smallest: Number
    reference_largest: Number
    generated_smallest: Number
    generated_largest: Number
    reference_hits: int
    """Cells above zero."""
    generated_hits: int
    reference_below: int
    """Cells of the reference below the smallest generated one."""
    generated_below: int
    """Generated cells below the smallest one of the reference."""


class Conservation(Result):
    """Does a generator make energy that the reference never shows?"""

    limit: Number
    """The 99.9 % quantile of ΣE/E_inc of the reference (or its largest where showers are few)."""
    reference_above: Number
    """Fraction of showers above the limit."""
    generated_above: Number
    expected_error: Number
    """One standard deviation of the difference if both had the reference's."""
    largest: Number
    """Largest ΣE/E_inc of the generated showers."""
    largest_reference: Number
    worst: tuple[int, ...]
    """Numbers of the generated showers farthest above the limit, at most 10."""
    negative_or_empty: int
    """Generated showers without any energy."""


class Memorisation(Result):
    """Are generated showers nearer to the training showers than independent Geant4 showers are?

    Distances are Euclidean between showers of similar incident energy, in the space that ``space`` names.
    """

    counts: dict[str, int]
    """Showers used: ``generated``, ``training``, ``held_out``."""
    space: str
    """In words."""
    edges: Floats
    """Bins of nearest-neighbour distances, (B + 1,)."""
    generated_to_training: Floats
    """Entries, (B,)."""
    generated_to_held_out: Floats
    held_out_to_training: Floats
    nearer: Estimate
    """Share of generated showers whose nearest training shower is nearer than their nearest held-out shower,
    with as many of each; ideal 0.5, and 1 for a copy of the training set."""
    copies: int
    """Generated showers nearer to a training shower than all but 0.1 % of held-out showers are."""
    copies_expected: Number
    """How many of those chance gives."""
    significant: bool = False
    """Whether these are more copies than chance allows."""
    rows: tuple[tuple[int, int], ...]
    """The generated showers nearest to a training shower and that shower's number, at most 10."""
    verdict: str = ""
    """One plain sentence, of `caloforge.report`."""


class Slice(Result):
    """Metrics of the showers in one bin of a condition."""

    condition: str
    """``energy`` (MeV), ``theta``, ``phi`` (rad), ``detector`` or ``particle``."""
    low: Number
    """Lower end of the bin, half-open but for the last; NaN for names."""
    high: Number
    label: str
    """In words, with the unit."""
    counts: dict[str, int]
    """``reference`` and ``generated`` showers."""
    separation: dict[str, Separation]
    """Mean over the layers of each group of features, in the bins of the whole sample."""
    response: Comparison
    """Mean and spread of ΣE/E_inc."""
    metrics: dict[str, Estimate]
    """``fpd``, ``kpd`` and ``auc_<classifier>`` (of the whole sample's classifiers, on their validation
    showers in this bin), as far as there are enough showers."""
    note: str = ""
    """A sentence of `caloforge.report` where there are too few showers to say anything."""


class Shift(Result):
    """One place where the means of both samples differ by more than chance."""

    name: str
    """``layer 10``, ``cell 10/3/2`` (indices z/φ/r or z/y/x, or the voxel's number) or
    ``cells 10/3/2 and 10/4/2`` for the product of two neighbours."""
    kind: str
    """``layer``, ``cell`` or ``neighbours``."""
    relative: Number
    """(generated − reference) / reference of the mean."""
    error: Number
    """One standard deviation of that."""
    z: Number
    """In standard deviations."""
    p_value: Number
    """Two-sided, multiplied by the number of places looked at (Bonferroni), at most 1."""


class Localisation(Result):
    """Where two samples differ in the mean."""

    shifts: list[Shift]
    """Places that differ by more than chance, layers first, then most significant first; at most 20 of each
    kind."""
    tested: dict[str, int]
    """Places looked at, by kind."""
    found: dict[str, int]
    """Places that differ by more than chance, by kind."""
    shared_showers: Number
    """Share of rows in which both files hold the same shower, judged by the energies of their layers; errors
    and floors assume that there are none."""
    exact: dict[str, Number]
    """Where rows are shared: layers whose mean differs at all, by its relative difference."""
