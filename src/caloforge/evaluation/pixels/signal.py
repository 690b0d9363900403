"""Clusters of minimum-ionising particles, as signal for backgrounds to be laid over.

Legend: ``n`` events, ``S`` sensors, ``K`` particles a sensor and event, ``P`` pieces of a particle's charge,
``H`` hits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from caloforge.data.pixels import PixelHits
from caloforge.detector import PixelDetector
from caloforge.runtime.streams import normals, uniforms

__all__ = ["KINDS", "Signal", "signal_hits"]

KINDS = ("perpendicular", "inclined")
"""Particles through the sensor at a right angle, or at angles to it with |tan| ≤ 0.5 in u and 0.5-2 in v."""
ELECTRONS_PER_UM, WIDTH_PER_UM = 75.0, 6.0
"""Of silicon: most probable charge, and the width of the distribution around it."""
TAN_U, TAN_V = 0.5, (0.5, 2.0)
PIECES = 32


class Signal(NamedTuple):
    """Hits, and the number in `KINDS` of the particle behind each, (H,)."""

    hits: PixelHits
    kind: NDArray[np.int64]


def signal_hits(
    detector: PixelDetector, numbers: NDArray[np.int64], seed: int, particles: int = 20
) -> Signal:
    """Clusters of so many minimum-ionising particles on every sensor, every second of them inclined.

    A particle crosses the sensor's middle plane anywhere in its active area. Its charge is most probably 75
    electrons per µm of its path and fluctuates as a Moyal distribution of width 6 electrons per µm. It lies
    evenly along the path in 32 pieces, which diffuse and are shifted as the read-out says. Noise and
    pedestals are left out, and charges below the threshold.

    Args:
        detector: the sensors and their read-out.
        numbers: of the events, (n,); with the seed they decide everything, whatever the other events.
        seed: of places, angles, charges and diffusion.
        particles: K.
    """
    sensors, readout = len(detector.sensors), detector.readout
    n, each = len(numbers), sensors * particles
    kind = np.arange(each) % len(KINDS)
    sensor = np.arange(each) // particles
    layers = [detector.layers[frame.layer] for frame in detector.sensors]
    thickness = np.array([layer.thickness_um for layer in layers])[sensor]
    size = np.array([(np.ptp(layer.edges_u), np.ptp(layer.edges_v)) for layer in layers])[sensor]
    place = uniforms(seed, numbers, "pixel.signal.place", each * 4).reshape(n, each, 4)
    middle = (place[..., :2] - 0.5) * size
    tan_v = TAN_V[0] + (TAN_V[1] - TAN_V[0]) * np.abs(2 * place[..., 3] - 1)
    tangent = np.stack([TAN_U * (2 * place[..., 2] - 1), np.copysign(tan_v, place[..., 3] - 0.5)], axis=-1)
    tangent = np.where((kind == 1)[:, None], tangent, 0.0)
    path = thickness * np.sqrt(1 + (tangent**2).sum(axis=-1))
    chance = normals(seed, numbers, "pixel.signal.charge", each).astype(np.float64)
    moyal = -np.log(np.maximum(chance**2, 1e-12))
    electrons = path * (ELECTRONS_PER_UM + WIDTH_PER_UM * moyal)
    drift = normals(seed, numbers, "pixel.signal.drift", each * PIECES * 2).reshape(n, each, PIECES, 2)
    along = (np.arange(PIECES) + 0.5) / PIECES - 0.5
    position = middle[:, :, None] + tangent[:, :, None] * (along[:, None] * 1e-3 * thickness[:, None, None])
    position += drift * readout.diffusion_um * 1e-3
    position[..., 0] += readout.lorentz_um * 1e-3
    event_sensor = np.arange(n)[:, None] * sensors + sensor
    u, v, inside = detector.cells_at(np.tile(sensor.repeat(PIECES), n), position.reshape(-1, 2))
    _, n_u, n_v = detector.shape
    cell = ((np.repeat(event_sensor.ravel(), PIECES) * n_u + u) * n_v + v)[inside]
    cells, inverse = np.unique(cell, return_inverse=True)
    total = np.bincount(inverse, np.repeat(electrons.ravel() / PIECES, PIECES)[inside], len(cells))
    adu = np.minimum(np.rint(total / readout.electrons_per_adu), readout.largest_adu)
    whose = np.zeros(len(cells), dtype=np.int64)
    whose[inverse] = np.tile(kind.repeat(PIECES), n)[inside]
    kept = adu >= readout.threshold_adu
    hits = PixelHits.from_cells(detector.shape, n, cells[kept], adu[kept].astype(np.uint8))
    return Signal(hits, whose[kept])
