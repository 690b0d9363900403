"""Does a generator repeat the showers it was trained on?

Legend: ``N`` generated showers, ``M`` training showers and as many held-out ones.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Showers
from caloforge.errors import DataError
from caloforge.evaluation.distances.neighbours import nearest_in_windows
from caloforge.evaluation.distances.points import Points, root_fractions
from caloforge.evaluation.distances.prdc import MAX_SHOWERS, drawn_rows
from caloforge.evaluation.packages import needed
from caloforge.evaluation.progress import Progress
from caloforge.evaluation.results import Estimate, Memorisation

__all__ = ["judge_nearest", "memorisation"]

LEAST_SHOWERS = 50
ENERGY_RANGE = 1.1
"""Showers are compared with those of at most so much more or less incident energy (factor)."""
COPY_LEVEL = 0.001
SIGNIFICANT, SIGMAS = 1e-3, 3.1
BINS = 40
_GROUP = 50

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


class _Sample:
    """Showers in the order of their incident energies, as points, with their numbers in the whole."""

    def __init__(self, showers: Showers, max_showers: int, seed: int) -> None:
        rows = drawn_rows(len(showers), showers.mesh.n_voxels, max_showers, 3, seed)
        self.rows = rows[np.argsort(showers.conditions.energy[rows], kind="stable")]
        self.log_energy = np.log(showers.conditions.energy[self.rows])
        self.points = Points(showers, root_fractions, self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def window(self, log_energy: Floats) -> tuple[Rows, Rows]:
        """The showers of similar energy: start and stop for each energy."""
        width = np.log(ENERGY_RANGE)
        return (
            np.searchsorted(self.log_energy, log_energy - width, side="left"),
            np.searchsorted(self.log_energy, log_energy + width, side="right"),
        )

    def nearest_in(self, other: _Sample, text: str, progress: Progress | None) -> tuple[Rows, Floats, Rows]:
        """Number and distance of the nearest shower of another sample, and how many it is among, (N,)."""
        starts, stops = other.window(self.log_energy)
        report = None if progress is None else partial(progress, text)
        numbers, squares = nearest_in_windows(self.points, other.points, starts, stops, report)
        return numbers, np.sqrt(squares) / self.points.steps, stops - starts


def memorisation(
    generated: Showers,
    training: Showers,
    held_out: Showers,
    *,
    max_showers: int = MAX_SHOWERS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Memorisation:
    """Compare the distances of generated showers to training showers with those to held-out showers.

    If nothing was memorised, training and held-out showers can be exchanged. Distances are Euclidean between
    the square roots of cell energies over the incident energy, among showers whose incident energies differ
    by at most 10 %, and are given in units of the median distance of held-out showers of that energy to their
    nearest training shower: 1 is usual, 0 is a copy.

    Two tests:

    * ``nearer``: is the nearest of both a training shower in half of all cases? Its error counts showers that
      are nearest to many generated ones: ½ √Σ c² / N, where c is how often each is the nearest.
    * ``copies``: is anything nearer to a training shower than all but 0.1 % of held-out showers are?
      Expected are as many as chance gives, N r / (M + 1) with r the rank of that limit, or, if more, as many
      as are that near to a held-out shower: a generator whose showers lack fluctuations is near to all.

    Training showers that were turned, mirrored or put together from several are not found.

    Args:
        generated: showers to judge.
        training: those the generator has learnt from.
        held_out: independent showers of the same kind, which it has never seen.
        max_showers: of each; of more, so many are drawn at random, and of training and held-out showers
            equally many.
        seed: of the draws.
        progress: called with a text and the fraction that is done.

    Raises:
        MeshError: the meshes differ.
        DataError: fewer than 50 showers of a kind, no showers of similar energy, or held-out showers that are
            training showers.
        MissingDependencyError: scipy is not installed.
    """
    for showers, what in ((training, "training"), (held_out, "held-out")):
        generated.require_same_cells(showers, f"{what} showers to compare")
    equal = min(len(training), len(held_out), max_showers)
    if min(equal, len(generated)) < LEAST_SHOWERS:
        raise DataError(
            f"{len(generated)} generated, {len(training)} training and {len(held_out)} held-out showers; "
            f"a check for memorisation needs at least {LEAST_SHOWERS} of each"
        )
    made = _Sample(generated, max_showers, seed)
    seen, unseen = _Sample(training, equal, seed + 1), _Sample(held_out, equal, seed + 2)
    to_seen, d_seen, n_seen = made.nearest_in(seen, "nearest training showers", progress)
    to_unseen, d_unseen, n_unseen = made.nearest_in(unseen, "nearest held-out showers", progress)
    _, d_null, n_null = unseen.nearest_in(seen, "held-out against training showers", progress)
    usable, known = (n_seen > 0) & (n_unseen > 0), n_null > 0
    if usable.sum() < LEAST_SHOWERS or known.sum() < LEAST_SHOWERS:
        raise DataError(
            f"only {usable.sum()} of {len(made)} generated showers have training and held-out showers within "
            f"{ENERGY_RANGE - 1:.0%} of their incident energy; give samples of the same energies"
        )
    if (d_null[known] == 0).mean() > 0.01:
        raise DataError(
            f"{(d_null[known] == 0).sum()} of {len(unseen)} held-out showers are also training showers; "
            "give showers which the generator has not been trained on"
        )
    scale = _usual_distance(unseen.log_energy[known], d_null[known])
    usual = scale(made.log_energy[usable])
    d_seen, d_unseen = d_seen[usable] / usual, d_unseen[usable] / usual
    d_null = d_null[known] / scale(unseen.log_energy[known])
    return judge_nearest(
        (to_seen[usable], to_unseen[usable]),
        (d_seen, d_unseen, d_null),
        expected=float((n_seen[usable] / (n_seen + n_unseen)[usable]).mean()),
        held_out=len(unseen),
        space=f"{root_fractions.name}, over the usual distance at that energy",
        rows=(made.rows[usable], seen.rows),
    )


def judge_nearest(
    nearest: tuple[Rows, Rows],
    distances: tuple[Floats, Floats, Floats],
    *,
    expected: float,
    held_out: int,
    space: str,
    rows: tuple[Rows, Rows],
) -> Memorisation:
    """What distances to nearest neighbours say.

    Args:
        nearest: for each generated shower the nearest training and the nearest held-out one, (N,) and (N,).
        distances: to these, (N,) and (N,), and of held-out showers to their nearest training shower, (≤ M,).
        expected: share of generated showers that are nearer to a training shower by chance.
        held_out: M.
        space: of the distances, in words.
        rows: numbers of the generated and of the training showers in their files, (N,) and (M,).
    """
    (to_seen, to_unseen), (d_seen, d_unseen, d_null) = nearest, distances
    rank = max(1, round(COPY_LEVEL * len(d_null)))
    limit = np.partition(d_null, rank - 1)[rank - 1]
    near_seen, near_unseen = to_seen[d_seen < limit], to_unseen[d_unseen < limit]
    copies = len(near_seen)
    edges = np.linspace(0.0, max(float(d.max()) for d in distances), BINS + 1)
    worst = np.argsort(d_seen, kind="stable")[:10]
    return Memorisation(
        counts={"generated": len(d_seen), "training": len(rows[1]), "held_out": held_out},
        space=space,
        edges=edges,
        generated_to_training=_histogram(d_seen, edges),
        generated_to_held_out=_histogram(d_unseen, edges),
        held_out_to_training=_histogram(d_null, edges),
        nearer=_nearer(d_seen, d_unseen, to_seen, to_unseen, expected, len(rows[1])),
        copies=copies,
        copies_expected=max(len(d_seen) * rank / (len(d_null) + 1), float(len(near_unseen))),
        significant=_significant(near_seen, near_unseen, len(d_seen), len(d_null), rank),
        rows=tuple((int(rows[0][g]), int(rows[1][to_seen[g]])) for g in worst),
    )


def _usual_distance(log_energy: Floats, distances: Floats) -> Callable[[Floats], Floats]:
    """Median distance as a function of the energy, from groups of about 50 showers of similar energy."""
    groups = max(1, len(distances) // _GROUP)
    centres = [float(part.mean()) for part in np.array_split(log_energy, groups)]
    medians = np.array([float(np.median(part)) for part in np.array_split(distances, groups)])
    medians[medians == 0] = 1.0  # showers without energy
    return lambda x: np.interp(x, centres, medians)


def _nearer(
    d_seen: Floats, d_unseen: Floats, to_seen: Rows, to_unseen: Rows, expected: float, equal: int
) -> Estimate:
    """Share of showers nearer to a training than to a held-out shower; ties count half."""
    n = len(d_seen)
    wins = np.where(d_seen == d_unseen, 0.5, d_seen < d_unseen)
    nearest = np.where(d_seen <= d_unseen, to_seen, equal + to_unseen)
    popularity = np.bincount(nearest).astype(np.float64)
    error = float(np.sqrt(np.sum(popularity**2))) / (2 * n)
    return Estimate(
        value=float(wins.mean()),
        error=error,
        floor=expected,
        floor_error=0.0,
        floor_from="expectation",
        ideal=0.5,
    )


def _significant(near_seen: Rows, near_unseen: Rows, generated: int, held_out: int, rank: int) -> bool:
    """Whether near copies are more than chance allows and than there are showers as near to held-out ones.

    Args:
        near_seen, near_unseen: the training and the held-out shower of each generated one that is as near.
        generated, held_out: showers compared.
        rank: of the limit among the distances of held-out showers.
    """
    hypergeom = needed("scipy.stats").hypergeom
    copies = len(near_seen)
    if copies == 0:
        return False
    # of all showers, in the order of their distance, the first copies + rank − 1 hold < rank held-out ones
    by_chance = hypergeom.cdf(rank - 1, generated + held_out, held_out, copies + rank - 1)
    # exchanging training and held-out showers moves all that are near to one of them together
    spread = np.sqrt(sum(float(np.sum(np.bincount(near) ** 2)) for near in (near_seen, near_unseen)))
    return bool(by_chance < SIGNIFICANT and copies - len(near_unseen) > SIGMAS * spread)


def _histogram(values: Floats, edges: Floats) -> Floats:
    return np.histogram(values, bins=edges)[0].astype(np.float64)
