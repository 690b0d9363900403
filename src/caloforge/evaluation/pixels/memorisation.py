"""Does a generator repeat the events it was trained on, or parts of them?

Legend: ``N`` generated events, ``M`` training events and as many held-out ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from caloforge.data.pixels import PixelEvents
from caloforge.errors import DataError
from caloforge.evaluation.distances.memorisation import judge_nearest
from caloforge.evaluation.packages import needed
from caloforge.evaluation.progress import Fraction
from caloforge.evaluation.results import Memorisation

__all__ = ["LEAST_EVENTS", "event_memorisation"]

LEAST_EVENTS = 20
MOST_EVENTS = 300
"""Of each sample: 300 events of Belle II's detector are 20 million hits."""
SAME = 0.5
"""Distance below which a held-out event is no event of its own."""


def event_memorisation(
    generated: PixelEvents, training: PixelEvents, held_out: PixelEvents, seed: int, report: Fraction
) -> Memorisation:
    """Compare what generated events have in common with training events and with held-out ones.

    The distance of two events is 1 − shared / √(lit₁ lit₂), where ``shared`` cells are lit in both: 0 for
    copies. A single sensor that is copied of 40 shows, since independent events share a cell in a hundred.

    Raises:
        DataError: held-out events are also training events.
    """
    equal = min(len(training), len(held_out), MOST_EVENTS)
    samples = (generated, min(len(generated), MOST_EVENTS)), (training, equal), (held_out, equal)
    rows, lit = [], []
    for i, (events, n) in enumerate(samples):
        rows.append(np.sort(np.random.default_rng((seed, i)).permutation(len(events))[:n]))
        lit.append(_lit_cells(events[rows[-1]]))
        report((i + 1) / (len(samples) + 1))
    made, seen, unseen = lit

    def nearest(one: Any, other: Any) -> tuple[Any, Any]:
        shared = (one @ other.T).toarray()
        sizes = np.sqrt(np.outer(*(m.getnnz(axis=1).astype(np.float64) for m in (one, other))))
        distance = 1 - shared / np.maximum(sizes, 1)
        place = distance.argmin(axis=1)
        return place, distance[np.arange(len(place)), place]

    to_seen, d_seen = nearest(made, seen)
    to_unseen, d_unseen = nearest(made, unseen)
    _, d_null = nearest(unseen, seen)
    if (d_null < SAME).any():
        raise DataError(
            f"{(d_null < SAME).sum()} of {equal} events of the truth are also training events; give a truth "
            "that the generator has not been trained on"
        )
    report(1.0)
    return judge_nearest(
        (to_seen, to_unseen),
        (d_seen, d_unseen, d_null),
        expected=0.5,
        held_out=equal,
        space="lit cells, 1 − shared / √(lit₁ lit₂)",
        rows=(rows[0], rows[1]),
    )


def _lit_cells(events: PixelEvents) -> Any:
    """A sparse matrix of ones, a row an event and a column a cell."""
    sparse = needed("scipy.sparse")
    parts = []
    cells = int(np.prod(events.detector.shape))
    for hits, _ in events.batches():
        ones = np.ones(len(hits.u), dtype=np.int32)
        parts.append(sparse.csr_matrix((ones, hits.cell % cells, hits.first), shape=(len(hits), cells)))
    return sparse.vstack(parts, format="csr")
