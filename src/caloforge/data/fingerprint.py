"""What tells conditions and data sets apart."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

from caloforge.data.conditions import Conditions
from caloforge.data.showers import Showers

if TYPE_CHECKING:
    from caloforge.data.pixels import PixelEvents

__all__ = ["conditions_digest", "data_fingerprint", "events_fingerprint", "sample_fingerprint"]

READ_BYTES = 32 << 20


def conditions_digest(conditions: Conditions) -> str:
    """Sixteen hexadecimal digits that differ where any condition does."""
    columns = (conditions.energy, conditions.theta, conditions.phi, conditions.particle, conditions.impact)
    state = hashlib.sha256()
    for column in columns:
        state.update(b"none" if column is None else np.ascontiguousarray(column).tobytes())
    state.update("\n".join(conditions.detector).encode())
    return state.hexdigest()[:16]


def data_fingerprint(showers: Showers) -> str:
    """Thirty-two hexadecimal digits that differ where any cell, condition or energy does.

    All energies are read once, in slices, as float32: how a file is compressed or laid out does not matter.
    """
    cells = [f"{name} {mesh.fingerprint}" for name, mesh in sorted(showers.meshes.items())]
    state = hashlib.sha256("\n".join([*cells, conditions_digest(showers.conditions)]).encode())
    rows = max(1, READ_BYTES // (4 * showers.n_voxels))
    for start in range(0, len(showers), rows):
        state.update(np.ascontiguousarray(showers.read(start, start + rows)).data)
    return state.hexdigest()[:32]


def sample_fingerprint(showers: Showers) -> str:
    """As `data_fingerprint`, but also different where a further column or the provenance is."""
    state = hashlib.sha256(data_fingerprint(showers).encode())
    for name, column in sorted(showers.extra.items()):
        state.update(name.encode() + np.ascontiguousarray(column).tobytes())
    state.update(json.dumps(showers.provenance, sort_keys=True, default=str).encode())
    return state.hexdigest()[:32]


def events_fingerprint(events: PixelEvents) -> str:
    """As `data_fingerprint`, of pixel events: different where the detector, a rate or a hit is."""
    state = hashlib.sha256(json.dumps(events.detector.to_dict(), sort_keys=True).encode())
    state.update(np.ascontiguousarray(events.conditions.rates).tobytes())
    for hits, _ in events.batches():
        for column in (hits.counts.astype(np.int64), hits.u, hits.v, hits.charge):
            state.update(np.ascontiguousarray(column).tobytes())
    return state.hexdigest()[:32]
