"""From deposits to 8-bit charges, after the digitiser of Belle II's pixel detector.

Legend: ``D`` deposits, ``G`` groups of electrons, ``H`` hits. See `caloforge.detector.pixel.Readout`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from caloforge.data.pixels.hits import PixelHits
from caloforge.detector.pixel import PixelDetector
from caloforge.runtime.streams import generator

if TYPE_CHECKING:
    from caloforge.geant4.pixel.engine import Deposits

__all__ = ["digitise"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def digitise(deposits: Deposits, detector: PixelDetector, seed: int, number: int) -> PixelHits:
    """Charges of one event; with the seed, its number decides what is random."""
    random = generator(seed, number, "pixel.digitise")
    readout = detector.readout
    cell, electrons = _drift(deposits, detector, random)
    noisy = random.integers(
        np.prod(detector.shape), size=random.poisson(readout.noise_hits * np.prod(detector.shape))
    )
    order = np.concatenate([cell, noisy])
    cells, inverse = np.unique(order, return_inverse=True)
    signal = np.bincount(inverse, np.concatenate([electrons, np.zeros(len(noisy))]), len(cells))
    charge = signal + random.normal(0.0, readout.noise_electrons, len(cells))
    adu = charge / readout.electrons_per_adu
    pedestal = np.rint(random.normal(readout.pedestal_adu, readout.pedestal_spread_adu, len(cells)))
    pedestal = np.clip(pedestal, 0, readout.largest_adu)
    adu = np.clip(np.rint(adu + pedestal), 0, readout.largest_adu) - pedestal
    # the noise of a noise hit is beyond the threshold by itself
    adu[np.isin(cells, noisy) & (adu < readout.threshold_adu)] = readout.threshold_adu
    kept = adu >= readout.threshold_adu
    return PixelHits.from_cells(detector.shape, 1, cells[kept], adu[kept].astype(np.uint8))


def _drift(deposits: Deposits, detector: PixelDetector, random: np.random.Generator) -> tuple[Ints, Floats]:
    """Flat numbers of the cells that groups of electrons reach, (G,), and the electrons of each group."""
    readout = detector.readout
    centres = np.array([sensor.centre for sensor in detector.sensors])
    axes = np.array([sensor.axes for sensor in detector.sensors])[:, :2]  # (S, 2, 3): u and v
    local_axes = axes[deposits.sensor]
    start, end = (
        np.einsum("dij,dj->di", local_axes, point - centres[deposits.sensor])
        for point in (deposits.start, deposits.end)
    )
    length = np.linalg.norm(deposits.end - deposits.start, axis=1)
    electrons = deposits.energy * 1e6 / readout.ev_per_electron
    pieces = np.maximum(
        np.ceil(length / (readout.segment_um * 1e-3)), np.ceil(electrons / readout.group_electrons)
    ).astype(np.int64)
    deposit = np.repeat(np.arange(len(pieces)), pieces)
    first = np.cumsum(pieces) - pieces
    along = (np.arange(len(deposit)) - first[deposit] + 0.5) / pieces[deposit]
    position = start[deposit] + (end - start)[deposit] * along[:, None]
    position += random.normal(0.0, readout.diffusion_um * 1e-3, position.shape)
    position[:, 0] += readout.lorentz_um * 1e-3
    sensor = deposits.sensor[deposit]
    u, v, inside = detector.cells_at(sensor, position)
    _, n_u, n_v = detector.shape
    cell = (sensor * n_u + u) * n_v + v
    return cell[inside], (electrons / np.maximum(pieces, 1))[deposit][inside]
