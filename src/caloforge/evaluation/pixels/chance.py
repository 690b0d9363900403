"""What chance gives: events of the truth against other events of the truth.

Legend: ``m`` events of a side, ``R`` deals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.evaluation.pixels.reading import Sample
from caloforge.evaluation.results import Estimate

__all__ = ["DEALS", "Deal", "Rows", "against_chance", "are_twins", "deal_events"]

Rows = NDArray[np.int64]

DEALS = 20


@dataclass(frozen=True, eq=False)
class Deal:
    """Events that are compared at the same size: (m,) of the truth with (m,) other true or generated ones.

    Attributes:
        truth: events of the truth on one side.
        other: those on the other side that are true as well: of the second reference where there is one.
        generated: generated ones in their place.
        second: the second reference.
    """

    truth: Rows
    other: Rows
    generated: Rows
    second: Sample | None = None

    def other_of(self, truth: Sample) -> Sample:
        """The sample that ``other`` are rows of."""
        return truth if self.second is None else self.second

    def rows_of(self, sample: Sample, truth: Sample) -> list[Rows]:
        """The events of one of the samples that are dealt."""
        true = [self.truth, self.other] if self.second is None else [self.truth]
        return true if sample is truth else [self.other if sample is self.second else self.generated]


def are_twins(truth: Sample, generated: Sample) -> bool:
    """Whether event i of both samples has the same known rates."""
    return truth.rates.shape == generated.rates.shape and np.array_equal(truth.rates, generated.rates)


def deal_events(
    truth: Sample,
    generated: Sample,
    second: Sample | None,
    seed: int,
    *,
    rows: Rows | None = None,
    times: int = DEALS,
) -> list[Deal]:
    """Random halves of the truth, or events of the truth and of a second reference, and as many generated.

    Of twins the halves are dealt in pairs of neighbouring rates, and generated events stand in the place of
    the other half's: rates, which move every number, are then as equal on the side of chance as on that of
    the generator.

    Args:
        truth, generated, second: the samples.
        seed: of the draws.
        rows: those of the truth that may be dealt, in order; by default all.
        times: R.
    """
    rows = np.arange(len(truth)) if rows is None else rows
    twins = second is None and are_twins(truth, generated)
    deals = []
    for i in range(times):
        random = np.random.default_rng((seed, i))
        if second is not None:
            m = min(len(rows), len(second), len(generated))
            one = random.permutation(rows)[:m]
            other = random.permutation(len(second))[:m]
        else:
            order = rows[np.argsort(truth.rates[rows].mean(axis=1))] if twins else random.permutation(rows)
            pairs = order[: len(order) // 2 * 2].reshape(-1, 2)
            m = len(pairs) if twins else min(len(pairs), len(generated))
            one, other = random.permuted(pairs[:m], axis=1).T
        made = other if twins else random.permutation(len(generated))[:m]
        deals.append(Deal(one, other, made, second))
    return deals


def against_chance(
    truth: Sample,
    generated: Sample,
    deals: Sequence[Deal],
    distance: Callable[[tuple[Sample, Rows], tuple[Sample, Rows]], float],
    *,
    noise: float = 0.0,
    ideal: float = 0.0,
) -> Estimate:
    """A distance of generated from true events, and of true from true ones, both at the size of the deals.

    Means over the deals; errors are standard deviations over them, which for random halves are the standard
    errors of the whole samples. ``noise`` is a least error, where it is known.
    """
    values = np.array([distance((truth, d.truth), (generated, d.generated)) for d in deals])
    floors = np.array([distance((truth, d.truth), (d.other_of(truth), d.other)) for d in deals])
    m = len(deals[0].truth)
    return Estimate(
        value=float(values.mean()),
        error=max(float(values.std(ddof=1)), noise),
        floor=float(floors.mean()),
        floor_error=max(float(floors.std(ddof=1)), noise),
        floor_from="split of the reference" if deals[0].second is None else "second reference",
        ideal=ideal,
        showers=(m, m),
    )
