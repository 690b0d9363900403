"""What background does to the clusters of signal: merges with them, or hides them.

Legend: ``n`` events, ``S`` sensors, ``L`` layers, ``K`` kinds of signal.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caloforge.data.pixels import PixelHits, find_clusters
from caloforge.data.pixels.overlay import add_hits
from caloforge.detector import PixelDetector
from caloforge.evaluation.pixels.signal import KINDS, Signal

__all__ = ["OUTCOMES", "merged_clusters"]

OUTCOMES = ("clusters", "merged", "hidden")


def merged_clusters(signal: Signal, background: PixelHits, detector: PixelDetector) -> NDArray[np.int64]:
    """Signal clusters by layer and kind: all, those merged with background, and those hidden by it.

    Merged: hits of the background lie on a signal cluster or touch it, so that clustering what is read out
    finds them together. Hidden: most of the charge of that cluster is background.

    Returns:
        (n, L, K, 3), in the order of `OUTCOMES`.
    """
    own = find_clusters(signal.hits)
    both = add_hits(signal.hits, background, detector.readout)
    found, lit = find_clusters(both), both.cell

    def charges(hits: PixelHits) -> NDArray[np.float64]:
        """What each cluster that is found has of these hits."""
        place = found.label[np.searchsorted(lit, hits.cell)]
        return np.bincount(place, hits.charge, len(found)).astype(np.float64)

    of_background, of_signal = charges(background), charges(signal.hits)
    into = found.label[np.searchsorted(lit, signal.hits.cell[own.first])]
    flags = (np.ones(len(own), dtype=bool), of_background[into] > 0, of_background[into] > of_signal[into])
    n, n_layers = len(background), len(detector.layers)
    event, sensor = np.divmod(own.image, detector.shape[0])
    slot = (event * n_layers + detector.sensor_layers[sensor]) * len(KINDS) + signal.kind[own.first]
    shape = (n, n_layers, len(KINDS))
    counts = [np.bincount(slot[flag], minlength=int(np.prod(shape))).reshape(shape) for flag in flags]
    return np.stack(counts, axis=-1)
