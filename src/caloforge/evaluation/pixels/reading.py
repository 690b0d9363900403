"""What is kept of every event: one pass over the file, in batches.

Legend: ``N`` events, ``S`` sensors, ``L`` layers, ``G`` v-segments, ``K`` kinds of signal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.data.pixels import Clusters, PixelEvents, PixelHits, find_clusters
from caloforge.detector import PixelDetector
from caloforge.evaluation.histograms import EntryCounts
from caloforge.evaluation.pixels.merging import OUTCOMES, merged_clusters
from caloforge.evaluation.pixels.signal import KINDS, signal_hits
from caloforge.evaluation.progress import Fraction

__all__ = ["CLASSES", "SEGMENTS", "SHAPES", "Sample", "read_sample"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SEGMENTS = 6
"""Parts of a sensor along v, of equally many cells."""
CLASSES = ("soft", "hard", "charged")
"""Of clusters, as the experiment names their truth: one pixel up to 10 keV, a soft photon; one pixel above
it, a hard photon; several pixels, a charged particle."""
SOFT_KEV = 10.0
SHAPES = ("pixels", "size_u", "size_v", "charge")
"""Of clusters."""
MAP_CELLS = (10, 16)
"""Cells along u and v that are drawn as one."""
LARGEST_CHARGE = 20_000.0


def _edges(detector: PixelDetector) -> dict[str, Floats]:
    """Bins of everything that is histogrammed."""
    _, n_u, n_v = detector.shape
    readout = detector.readout
    sizes = np.unique(np.rint(np.geomspace(1, 400, 40)))
    edges = {
        "pixel_charge": np.arange(readout.threshold_adu, readout.largest_adu + 2) - 0.5,
        "image_occupancy": np.linspace(0.0, 20.0, 401),
        "cluster_pixels": np.append(sizes, sizes[-1] + 1) - 0.5,
        "cluster_size_u": np.arange(1, min(n_u, 25) + 2) - 0.5,
        "cluster_size_v": np.arange(1, min(n_v, 60) + 2) - 0.5,
        "cluster_charge": np.geomspace(readout.threshold_adu, LARGEST_CHARGE, 61),
        "clusters": np.geomspace(1.0, 10_000.0, 81),
    }
    return {name: values.astype(np.float64) for name, values in edges.items()}


@dataclass(frozen=True, eq=False)
class Sample:
    """Numbers of N events.

    Attributes:
        events: the events.
        pixels, adu: (N, S) lit cells, and their charge.
        segments: (N, S, G) lit cells of each segment.
        charges: (N, L, 256) cells of each charge.
        clusters: (N, S, 3) by `CLASSES`.
        shapes: (N, S, 4) sums over the clusters of each of `SHAPES`.
        overlaid: (N, L, K, 3) signal clusters, of which merged and hidden.
        counts: what is histogrammed, by name.
        maps: (S, U / 10, V / 16) lit cells of all events.
    """

    events: PixelEvents
    pixels: Ints
    adu: Ints
    segments: Ints
    charges: Ints
    clusters: Ints
    shapes: Floats
    overlaid: Ints
    counts: Mapping[str, EntryCounts]
    maps: Ints

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def rates(self) -> Floats:
        """(N, B) factors of each source."""
        return self.events.conditions.rates


def read_sample(events: PixelEvents, seed: int, report: Fraction) -> Sample:
    """Everything that is measured of single events; signal for them is made of the seed and their place."""
    counts = {name: EntryCounts(edges) for name, edges in _edges(events.detector).items()}
    parts: list[dict[str, NDArray[np.generic]]] = []
    maps, done = np.zeros(_map_shape(events.detector), dtype=np.int64), 0
    for hits, _ in events.batches():
        parts.append(_numbers(hits, events.detector, counts, maps, done, seed))
        done += len(hits)
        report(done / len(events))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Sample(events=events, counts=counts, maps=maps, **columns)


def _map_shape(detector: PixelDetector) -> tuple[int, int, int]:
    sensors, n_u, n_v = detector.shape
    return sensors, -(-n_u // MAP_CELLS[0]), -(-n_v // MAP_CELLS[1])


def _numbers(
    hits: PixelHits,
    detector: PixelDetector,
    counts: Mapping[str, EntryCounts],
    maps: Ints,
    first: int,
    seed: int,
) -> dict[str, NDArray[np.generic]]:
    """The columns of a `Sample` for a batch whose first event is number ``first``; histograms are filled."""
    sensors, n_u, n_v = detector.shape
    n, image = len(hits), hits.image
    images = n * sensors
    segment = image * SEGMENTS + hits.v.astype(np.int64) * SEGMENTS // n_v
    level = (hits.event * len(detector.layers) + detector.sensor_layers[hits.sensor]) * 256 + hits.charge
    np.add.at(maps, (hits.sensor, hits.u // MAP_CELLS[0], hits.v // MAP_CELLS[1]), 1)
    found = find_clusters(hits)
    kinds = _classes(found, detector)
    of_class = np.bincount(found.image * len(CLASSES) + kinds, minlength=images * len(CLASSES))
    shapes = [np.bincount(found.image, getattr(found, name), images) for name in SHAPES]
    whose = found.image // sensors
    for name in SHAPES:
        counts[f"cluster_{name}"].add(n, whose, getattr(found, name))
    every = np.repeat(np.arange(n), sensors)
    counts["pixel_charge"].add(n, hits.event, hits.charge)
    counts["image_occupancy"].add(n, every, 100 * hits.counts.ravel() / (n_u * n_v))
    counts["clusters"].add(n, every, np.bincount(found.image, minlength=images))
    signal = signal_hits(detector, np.arange(first, first + n), seed)
    return {
        "pixels": hits.counts,
        "adu": np.bincount(image, hits.charge, images).astype(np.int64).reshape(n, sensors),
        "segments": np.bincount(segment, minlength=images * SEGMENTS).reshape(n, sensors, SEGMENTS),
        "charges": np.bincount(level, minlength=n * len(detector.layers) * 256).reshape(n, -1, 256),
        "clusters": of_class.reshape(n, sensors, len(CLASSES)),
        "shapes": np.stack(shapes, axis=-1).reshape(n, sensors, len(SHAPES)),
        "overlaid": merged_clusters(signal, hits, detector).reshape(n, -1, len(KINDS), len(OUTCOMES)),
    }


def _classes(found: Clusters, detector: PixelDetector) -> Ints:
    """(C,) place of each cluster in `CLASSES`."""
    kev = found.charge * (detector.readout.electrons_per_adu * detector.readout.ev_per_electron * 1e-3)
    return np.where(found.pixels > 1, 2, np.where(kev > SOFT_KEV, 1, 0))
