"""Writing ROOT files, see `caloforge.data.formats.root`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from caloforge.data.exports.base import EXPORTS, Export, exported_file
from caloforge.data.formats.root import CELLS, KNOWN, NAME, load_uproot
from caloforge.data.showers import Showers
from caloforge.errors import DataError
from caloforge.runtime.structured import json_text

__all__: list[str] = []

BATCH_BYTES = 32 << 20
"""Energies that are written at once: a basket or cluster."""


def _export(make: str, *, hits: bool) -> Export:
    """What writes the objects that uproot's method ``make`` makes, of hits or of voxels."""

    def write(
        showers: Showers,
        path: Path,
        *,
        provenance: Mapping[str, Any],
        overwrite: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        uproot = load_uproot()
        detectors = sorted(set(showers.conditions.detector.tolist()))
        texts = {"mesh": showers.mesh.to_dict(), "detectors": detectors, "provenance": dict(provenance)}
        rows = max(1, BATCH_BYTES // (4 * showers.n_voxels))
        with (
            exported_file(path, overwrite) as whole,
            os.fdopen(os.dup(whole.fileno()), "r+b") as file,
            uproot.recreate(file) as root,
        ):
            for name, value in texts.items():
                root[name] = json_text(value)
            centres = {name: x.astype(np.float32) for name, x in showers.mesh.centres().items()}
            getattr(root, make)(CELLS, dict.fromkeys(centres, np.float32)).extend(centres)
            stored = None
            for start in range(0, max(1, len(showers)), rows):
                part = showers[start : start + rows]
                batch, types = _batch(path, part, start, detectors, hits)
                if stored is None:
                    stored = getattr(root, make)(NAME, types)
                if len(part):
                    stored.extend(batch)
                if progress is not None:
                    progress(start + len(part), len(showers))

    return write


for _name, _make in (("ttree", "mktree"), ("rntuple", "mkrntuple")):
    EXPORTS.add(_name)(_export(_make, hits=False))
    EXPORTS.add(f"{_name}-hits")(_export(_make, hits=True))


def _batch(
    path: Path, showers: Showers, start: int, detectors: list[str], hits: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Columns of some showers by name, the first of which is number ``start``, and their types."""
    import awkward

    conditions = showers.conditions
    batch: dict[str, Any] = {
        "event": np.arange(start, start + len(showers)),
        "incident_energy": conditions.energy,
        "incident_theta": conditions.theta,
        "incident_phi": conditions.phi,
        "incident_pdg": conditions.particle,
        "incident_detector": np.searchsorted(detectors, conditions.detector).astype(np.int32),
    }
    if conditions.impact is not None:
        batch |= {"impact_x": conditions.impact[:, 0].copy(), "impact_y": conditions.impact[:, 1].copy()}
    for name, column in showers.extra.items():
        if name in KNOWN or column.dtype.kind not in "fiub" or column.ndim != 1 or not name.isidentifier():
            raise DataError(
                f"{path}: column {name!r} of shape {column.shape} and type {column.dtype} has no place in a "
                f"ROOT file of ours; leave it out with ignore=[{name!r}] (--ignore {name})"
            )
        batch[name] = column
    types: dict[str, Any] = {name: column.dtype for name, column in batch.items()}
    flat = showers.energies.reshape(len(showers), showers.n_voxels)
    if not hits:
        types["energies"] = np.dtype((np.float32, (showers.n_voxels,)))
        return {**batch, "energies": flat}, types
    row, cell = np.nonzero(flat)
    counts = np.bincount(row, minlength=len(showers))
    types |= {"cell": "var * int32", "energy": "var * float32"}
    jagged = {"cell": cell.astype(np.int32), "energy": flat[row, cell]}
    return {**batch, **{name: awkward.unflatten(x, counts) for name, x in jagged.items()}}, types
