"""Statistical amplification: does a generated sample know more than the showers it was trained on?

A large held-out sample, the truth, divides the space of one or several observables into Q bins of equal
probability. The error of any sample is T = Σ_j (x_j − 1/Q)², where x_j is the fraction of its showers in bin
j; m independent true showers have the mean error (1 − 1/Q) / m. The generated sample is worth as many true
showers n' as have its error, and n' / n, with n training showers, is the amplification (Butter, Diefenbacher,
Kasieczka, Nachman and Plehn, arXiv:2008.06545; for calorimeters arXiv:2202.07352).

Legend: ``N`` showers of a sample, ``M`` of the truth, ``Q`` bins, ``K`` sample sizes, ``d`` observables.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from caloforge.data import Showers, open_showers
from caloforge.data.matching import discrete_values, share_among
from caloforge.errors import DataError
from caloforge.evaluation.features import EPSILON, Features, compute_features
from caloforge.evaluation.results.base import Details, Floats, Number, Result
from caloforge.runtime.provenance import provenance
from caloforge.runtime.streams import checked_seed

__all__ = ["OBSERVABLES", "AmplificationCurve", "AmplificationResult", "amplification"]

Sample = Showers | str | os.PathLike[str] | Mapping[str, ArrayLike]
"""Showers, their file, or their observables by name, each (N,)."""

OBSERVABLES: tuple[str | tuple[str, ...], ...] = ("e_ratio", "depth", "width", ("e_ratio", "depth", "width"))
"""The response, the mean layer and the mean radial width of a shower, weighted with energy, one by one and
together."""
LEAST_PER_BIN = 10
SIZES = 12
PIECE = 20_000
MOST_QUANTILES = 1_000_000
SHARED = 0.5
"""Share of incident energies found in both of two samples above which they are not independent."""


class AmplificationCurve(Result):
    """Errors of samples of different sizes in one division of the truth into bins of equal probability."""

    observables: tuple[str, ...]
    """Names of the d observables."""
    bins: int
    """Q."""
    constant: Number
    """1 − Σ_j t_j² ≈ 1 − 1/Q, t_j the truth's share of bin j; m true showers have the mean error
    constant / m."""
    truth_error: Number
    """constant / M, the part of a measured error that comes from the finite truth sample and has been
    subtracted from ``training_error`` and ``errors``."""
    training_error: Number
    """Of the training sample."""
    training_error_std: Number
    """How much that scatters by chance."""
    sizes: Floats
    """Numbers of generated showers, (K,)."""
    errors: Floats
    """Mean error of disjoint samples of that many generated showers, (K,)."""
    errors_std: Floats
    """One standard deviation of that, (K,)."""
    equivalent: Number
    """n', true showers with the error of all generated showers. NaN where that error is below what this
    truth sample can resolve; ``amplification_low`` is a limit then."""
    amplification: Number
    """n' / n."""
    amplification_low: Number
    """The same with the error one standard deviation larger."""
    amplification_high: Number
    """The same with the error one standard deviation smaller; NaN where there is no upper limit."""

    @property
    def name(self) -> str:
        """The observables in one text."""
        return " × ".join(self.observables)


class AmplificationResult(Result):
    """Amplification of one generated sample, the layout of ``amplification.json``."""

    counts: dict[str, int]
    """Showers: ``truth``, ``training``, ``generated``."""
    curves: list[AmplificationCurve]
    """One for each choice of observables and number of bins."""
    shared_energies: dict[str, Number] = Field(default_factory=dict)
    """Share of incident energies that are the truth's, of the samples that are thus not independent of it."""
    warnings: list[str] = Field(default_factory=list)
    """Plain sentences of `caloforge.report`."""
    provenance: Details = Field(default_factory=dict)
    """Of the calculation and of the samples."""


def amplification(
    truth: Sample,
    training: Sample,
    generated: Sample,
    *,
    observables: Sequence[str | Sequence[str]] = OBSERVABLES,
    quantiles: int | Sequence[int] = 20,
    seed: int = 0,
) -> AmplificationResult:
    """How many true showers the generated ones are worth, per training shower.

    The finite truth sample adds (1 − 1/Q) / M to every measured error, which is subtracted. Standard
    deviations are those of T for independent showers to leading order; for a difference D = Σ δ_j² between
    the generator and the truth, Var T = 4 D v / Q + 2 (Q − 1) v² / Q² with v = 1/N + 1/M. (A bootstrap adds
    to the noise that is there already and is too wide by up to √3 where D is small.) They hold for this one
    training; another training sample would give another generator.

    Args:
        truth: a large sample that is independent of the training and of the generated showers.
        training: the showers the generator was trained on.
        generated: showers from it, with incident energies of their own, drawn from the same spectrum.
        observables: each a name, or several names for their joint distribution: those of
            `Features.columns`, ``depth`` (mean layer, weighted with energy), ``width`` (mean ``width_r``,
            weighted with energy, mm) and ``max_layer``; or keys of the mappings that are given.
        quantiles: bins of one observable, or several such numbers. d observables together get q^d bins, with
            the q ≥ 2 for which that is nearest; first the showers are divided by the first observable, then
            those of each bin by the second, and so on.
        seed: of the sub-samples, and of the places of showers with equal values (empty layers), which are
            dealt out at random.

    Raises:
        MeshError: the samples are on different meshes.
        DataError: an observable is unknown, or a sample is too small.
    """
    seed = checked_seed(seed)
    spaces = [(names,) if isinstance(names, str) else tuple(names) for names in observables]
    wanted = list(dict.fromkeys(name for names in spaces for name in names))
    if not wanted or not np.size(quantiles):
        raise DataError("give at least one observable and one number of quantiles")
    samples = {"truth": truth, "training": training, "generated": generated}
    opened = {r: s if isinstance(s, Mapping | Showers) else open_showers(s) for r, s in samples.items()}
    first = opened["truth"]
    for role, sample in opened.items():
        if isinstance(first, Showers) and isinstance(sample, Showers):
            first.require_same_cells(sample, f"{role} showers")
    columns = {role: _observables(sample, wanted, role) for role, sample in opened.items()}
    counts = {role: len(next(iter(values.values()))) for role, values in columns.items()}
    curves = []
    for names in spaces:
        for q in np.atleast_1d(quantiles).tolist():
            values = {r: np.stack([columns[r][name] for name in names], axis=1) for r in samples}
            curves.append(_curve(names, _bins_per_axis(q, len(names)), values, np.random.default_rng(seed)))
    origin = {role: s.provenance for role, s in opened.items() if isinstance(s, Showers)}
    made_by = provenance("amplification", seed=seed, observables=spaces, quantiles=quantiles)
    return AmplificationResult(
        counts=counts,
        curves=curves,
        shared_energies=_shared_energies(opened),
        provenance={"amplification": made_by} | origin,
    )


def _bins_per_axis(q: int, d: int) -> int:
    if not 2 <= q <= MOST_QUANTILES:
        raise DataError(f"quantiles must be at least 2 and at most {MOST_QUANTILES:,}, got {q:,}")
    root = int(q ** (1 / d))
    return min((max(2, k) for k in (root, root + 1)), key=lambda k: abs(k**d - q))


def _observables(
    sample: Showers | Mapping[str, ArrayLike], names: Sequence[str], role: str
) -> dict[str, Floats]:
    """The columns with these names, (N,) each."""
    if isinstance(sample, Mapping):
        whole = {name: np.asarray(values, dtype=np.float64) for name, values in sample.items()}
        chosen = _chosen(whole, names, role)
    else:  # all features of all showers at once could be larger than the memory
        pieces = [
            _chosen(_all_columns(compute_features(sample[start : start + PIECE])), names, role)
            for start in range(0, max(1, len(sample)), PIECE)
        ]
        chosen = {name: np.concatenate([piece[name] for piece in pieces]) for name in names}
    sizes = {column.shape for column in chosen.values()}
    if len(sizes) != 1 or len(next(iter(sizes))) != 1 or next(iter(sizes)) < (2,):
        raise DataError(f"the {role} observables must be (N,) with one N ≥ 2, got shapes {sorted(sizes)}")
    for name, column in chosen.items():
        if not np.isfinite(column).all():
            raise DataError(
                f"{name} of {role} shower {np.flatnonzero(~np.isfinite(column))[0]} is not finite"
            )
    return chosen


def _chosen(columns: Mapping[str, Floats], names: Sequence[str], role: str) -> dict[str, Floats]:
    unknown = [name for name in names if name not in columns]
    if unknown:
        known = ", ".join(list(columns)[:12])
        raise DataError(f"the {role} showers have no observable {unknown[0]!r}; there are {known}, …")
    return {name: columns[name].copy() for name in names}


def _all_columns(features: Features) -> dict[str, Floats]:
    """`Features.columns` after the observables of the whole shower."""
    layers = features.e_layer.astype(np.float64)
    total = layers.sum(axis=1) + EPSILON
    whole = {
        "depth": layers @ np.arange(layers.shape[1]) / total,
        "width": (layers * features.width["r"]).sum(axis=1) / total,
        "max_layer": layers.argmax(axis=1).astype(np.float64),
    }
    return whole | features.columns()


def _curve(
    names: tuple[str, ...], q: int, values: Mapping[str, Floats], rng: np.random.Generator
) -> AmplificationCurve:
    """The curve of each sample's observables, (N, d), in q^d bins."""
    truth, training, generated = values["truth"], values["training"], values["generated"]
    bins, n_truth = q ** len(names), len(truth)
    if n_truth < LEAST_PER_BIN * bins:
        raise DataError(
            f"{n_truth} true showers are too few for {bins} bins in {' × '.join(names)}; at least "
            f"{LEAST_PER_BIN} a bin are needed: take more showers or fewer quantiles"
        )
    truth_bins, (train_bins, made_bins) = _assign(truth, [training, generated], q, rng)
    target = np.bincount(truth_bins, minlength=bins) / n_truth
    made_bins = rng.permutation(made_bins)
    n, total = len(training), len(generated)
    smallest = max(2, min(n, total) // 10)
    sizes = np.unique(np.geomspace(smallest, total, SIZES).round().astype(np.int64))
    points = np.array([_error(made_bins, size, target, n_truth) for size in sizes])
    constant = float(1 - (target**2).sum())
    error, spread = points[-1]
    train_error, _ = _error(train_bins, n, target, n_truth)
    by_chance = np.sqrt(2 * (bins - 1)) / bins * (1 / n + 1 / n_truth)
    equivalent, high = (constant / e if e > 0 else np.nan for e in (error, error - spread))
    low = constant / (max(error, 0.0) + spread)
    return AmplificationCurve(
        observables=names,
        bins=bins,
        constant=constant,
        truth_error=constant / n_truth,
        training_error=train_error,
        training_error_std=float(by_chance),
        sizes=sizes.astype(np.float64),
        errors=points[:, 0],
        errors_std=points[:, 1],
        equivalent=float(equivalent),
        amplification=float(equivalent / n),
        amplification_low=float(low / n),
        amplification_high=float(high / n),
    )


def _error(places: NDArray[np.int64], size: int, target: Floats, n_truth: int) -> tuple[float, float]:
    """Mean error of disjoint samples of ``size`` showers, less the truth's part, and its standard deviation.

    With k samples, differences a_i from the generator and b of the truth, the mean of |δ + a_i + b|² has the
    variance 4 D (1/kN + 1/M) / Q + 2 (Q − 1) (1/kN² + 2/kNM + 1/M²) / Q².
    """
    bins, k = len(target), len(places) // size
    rows = np.repeat(np.arange(k), size) * bins
    counts = np.bincount(rows + places[: k * size], minlength=k * bins).reshape(k, bins)
    measured = float(((counts / size - target) ** 2).sum(axis=1).mean())
    constant = 1 - float((target**2).sum())
    difference = max(0.0, measured - constant * (1 / size + 1 / n_truth))
    variance = 4 * difference * (1 / (k * size) + 1 / n_truth) / bins
    variance += 2 * (bins - 1) / bins**2 * (1 / size**2 / k + 2 / (k * size * n_truth) + 1 / n_truth**2)
    return measured - constant / n_truth, float(np.sqrt(variance))


def _assign(
    truth: Floats, samples: Sequence[Floats], q: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """Bins of the truth (M,) and of other samples (N,) in the truth's nested quantiles, q an axis.

    Equal values are put in a random order first, so that bins keep their probability, and samples the scatter
    of a multinomial, also where an observable has few values.
    """
    everything = [truth, *samples]
    starts = np.cumsum([0, *map(len, everything)])
    places = [np.zeros(len(sample), dtype=np.int64) for sample in everything]
    d = truth.shape[1]
    for axis in range(d):
        _, codes = np.unique(np.concatenate([sample[:, axis] for sample in everything]), return_inverse=True)
        keys = codes + rng.random(len(codes))
        columns = [keys[a:b] for a, b in pairwise(starts)]
        parent, step = q ** (d - axis), q ** (d - axis - 1)
        for cell in range(0, q**d, parent):
            inside = [np.flatnonzero(place == cell) for place in places]
            ordered = np.sort(columns[0][inside[0]])
            for column, place, here in zip(columns, places, inside, strict=True):
                rank = np.searchsorted(ordered, column[here])
                place[here] += np.minimum(rank * q // len(ordered), q - 1) * step
    return places[0], places[1:]


def _shared_energies(samples: Mapping[str, Showers | Mapping[str, ArrayLike]]) -> dict[str, float]:
    """Share of incident energies that are the truth's, of the samples that thus depend on the truth."""
    energies = {role: s.conditions.energy for role, s in samples.items() if isinstance(s, Showers)}
    truth = energies.pop("truth", np.zeros(0))
    spectra = {role: e for role, e in energies.items() if not len(discrete_values(e, most=100))}
    shares = {role: share_among(e, truth) for role, e in spectra.items()}
    return {role: share for role, share in shares.items() if share > SHARED}
