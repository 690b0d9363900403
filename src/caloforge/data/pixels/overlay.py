"""Background laid over signal: charges on the same cell add up."""

from __future__ import annotations

import numpy as np

from caloforge.data.pixels.events import PixelEvents
from caloforge.data.pixels.hits import PixelHits
from caloforge.detector.pixel import Readout
from caloforge.errors import DataError

__all__ = ["add_hits", "overlay"]


def overlay(signal: PixelHits, background: PixelEvents, first: int = 0) -> PixelHits:
    """Signal events with one event of background each: signal i gets background ``first`` + i.

    Beyond the last background event it goes on with the first. Charges on the same cell are added and cut off
    at the read-out's largest, 255 ADU; what then is below its threshold, 7 ADU, is suppressed, so signal may
    hold charges below it. Pedestal and noise are in the background already. Long samples are laid over in
    pieces, with ``first`` growing.

    Raises:
        DataError: there is no background, or the signal is of other sensors.
    """
    if not len(background):
        raise DataError("there is no background event to lay over the signal")
    rows = (first + np.arange(len(signal))) % len(background)
    return add_hits(signal, background[rows].read(0, len(rows)), background.detector.readout)


def add_hits(one: PixelHits, other: PixelHits, readout: Readout) -> PixelHits:
    """Hits of the same events added cell by cell, cut off and suppressed as the read-out does."""
    if one.shape != other.shape or len(one) != len(other):
        raise DataError(
            f"{len(one)} events of {one.shape} cells cannot be laid over {len(other)} of {other.shape}: "
            "both must be of the same detector"
        )
    _, n_u, n_v = one.shape
    for hits in (one, other):
        if (hits.u >= n_u).any() or (hits.v >= n_v).any():
            raise DataError(f"a hit to lay over lies beyond the {n_u} × {n_v} cells of its sensor")
    lit, place = np.unique(np.concatenate([one.cell, other.cell]), return_inverse=True)
    charge = np.bincount(place, np.concatenate([one.charge, other.charge]), len(lit))
    kept = charge >= readout.threshold_adu
    adu = np.minimum(charge[kept], readout.largest_adu).astype(np.uint8)
    return PixelHits.from_cells(one.shape, len(one), lit[kept], adu)
